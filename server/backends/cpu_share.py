"""The CPU share: how many threads a run on the CPU has."""

import os
from pathlib import Path

from server.concurrency import ROOT, available_cores


def threads_for(asked: int, root: Path = ROOT, *, workers: int = 1) -> int:
    """Threads for one run: those asked for; else the cores of this process's share; 0 where all are its own.

    `workers` that run side by side divide the cores among them.

    A runtime left to itself (0) takes one a physical core of the whole machine, whatever an affinity mask or a
    container's quota says: measured with twice the threads of the available cores, a run takes up to 1.8 times as long.
    """
    if asked:
        return asked
    share = available_cores(root)
    if workers > 1:
        return max(1, share // workers)
    return share if share < (os.cpu_count() or 1) else 0
