"""The number of threads of a run on the CPU."""

import os
from pathlib import Path

from server.concurrency import ROOT, available_cores


def threads_for(asked: int, root: Path = ROOT, *, workers: int = 1) -> int:
    """Return the threads for one run: `asked`, else this process's share of the cores, 0 if it may use all of them.

    Several `workers` divide the share among them.

    With 0 a runtime starts one thread for each physical core of the machine and ignores affinity masks and container
    quotas. With twice as many threads as available cores a run was measured to take up to 1.8 times as long.
    """
    if asked:
        return asked
    share = available_cores(root)
    if workers > 1:
        return max(1, share // workers)
    return share if share < (os.cpu_count() or 1) else 0
