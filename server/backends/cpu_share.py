"""The CPU share: how many cores this process may keep busy."""

import os
from pathlib import Path

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def threads_for(asked: int, quota_file: Path = CGROUP_QUOTA, *, workers: int = 1) -> int:
    """Threads for one run: those asked for; else the cores of this process's share; 0 where all are its own.

    `workers` that run side by side divide the cores among them.

    A runtime left to itself (0) takes one a physical core of the whole machine, whatever an affinity mask or a
    container's quota says: measured with twice the threads of the cores at hand, a run takes up to 1.8 times as long.
    """
    if asked:
        return asked
    machine = os.cpu_count() or 1
    share = machine
    if hasattr(os, "sched_getaffinity"):
        share = len(os.sched_getaffinity(0))
    quota = _quota(quota_file)
    if quota is not None:
        share = min(share, max(1, int(quota)))
    if workers > 1:
        return max(1, share // workers)
    return share if share < machine else 0


def _quota(file: Path) -> float | None:
    """Cores' worth of time that the container may use, None where it is not limited (Linux, cgroup version 2)."""
    try:
        microseconds, period = file.read_text(encoding="ascii").split()
        return None if microseconds == "max" else int(microseconds) / int(period)
    except (OSError, ValueError):
        return None
