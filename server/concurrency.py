"""Concurrency helpers: gathering tasks, running work in threads, and sizing thread pools."""

import asyncio
import os
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from anyio import to_thread

T = TypeVar("T")

INLINE_BYTES = 64 * 1024
"""Below this size, a thread switch costs the event loop more than it saves."""
LARGE_BYTES = 4 * 2**20
"""Work above this size runs one piece at a time: parsing 60 MB holds the interpreter lock for a tenth of a second."""
SPARE_THREADS = 4
"""Threads in addition to one per core, because threads also wait for files and drivers."""
ROOT = Path("/")

_large_work = ThreadPoolExecutor(1, "promptir-large")


async def gather(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines concurrently and return their results in order.

    The first failure cancels the others, and is raised once they have ended.
    """
    # Not a TaskGroup: a cancelled one is left in a cycle with its task, and with all that the works hold.
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _end(tasks)


async def _end(tasks: list[asyncio.Task[T]]) -> None:
    """Cancel tasks and wait for them; empties the list, because their errors hold the frame that has it."""
    for task in tasks:
        task.cancel()
    if left := [task for task in tasks if not task.done()]:
        await asyncio.wait(left)
    tasks.clear()


async def run_inline(work: Callable[[], T]) -> T:
    """Run short work on the event loop."""
    return work()


async def run_off_loop(work: Callable[[], T], size: int) -> T:
    """Run work on `size` bytes: inline if small, else in a thread; large work runs one piece at a time."""
    if size <= INLINE_BYTES:
        return work()
    if size <= LARGE_BYTES:
        return await asyncio.to_thread(work)
    return await asyncio.get_running_loop().run_in_executor(_large_work, copy_context().run, work)


def bound_thread_pools(cores: int) -> None:
    """Size the thread pools of asyncio and the web framework by `cores`, not by the machine's cores."""
    threads = cores + SPARE_THREADS
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads, thread_name_prefix="promptir-pool"))
    to_thread.current_default_thread_limiter().total_tokens = threads


def available_cores(root: Path = ROOT) -> int:
    """Count the whole cores this process may use, from its affinity mask and control-group quotas; at least one.

    `root` is the folder that contains /proc and /sys.
    """
    share = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        share = len(os.sched_getaffinity(0))
    quotas = [quota for folder in _groups(root) if (quota := _quota(folder)) is not None]
    return max(1, min(share, *map(int, quotas)) if quotas else share)


class _Mount(NamedTuple):
    """Mounted control-group hierarchy: its version, the group at its root, and the mount point."""

    version: int
    top: PurePosixPath
    folder: Path


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the process's control groups and their parents that may limit CPU time."""
    own = _own_groups(root)
    for mount in _mounts(root):
        if (group := own.get(mount.version)) is None:
            continue
        yield mount.folder
        # In a container the mounted root may be a different group than the one listed for the process.
        inside = group.relative_to(mount.top) if group.is_relative_to(mount.top) else PurePosixPath()
        if ".." not in inside.parts:
            yield from (mount.folder.joinpath(*inside.parts[:depth]) for depth in range(1, len(inside.parts) + 1))


def _own_groups(root: Path) -> dict[int, PurePosixPath]:
    groups = {}
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if "cpu" in controllers.split(","):
            groups[1] = PurePosixPath(path)
        elif number == "0" and not controllers:
            groups[2] = PurePosixPath(path)
    return groups


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in _lines(root / "proc/self/mountinfo"):  # proc(5)
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        version = 2 if kind[0] == "cgroup2" else 1 if kind[0] == "cgroup" and "cpu" in kind[2].split(",") else None
        if version is not None:
            top, folder = (re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), name) for name in fields[3:5])
            yield _Mount(version, PurePosixPath(top), root / folder.lstrip("/"))


def _quota(folder: Path) -> float | None:
    """Return the CPU quota of a group in cores; None if it is unlimited."""
    try:
        if (folder / "cpu.max").exists():
            time, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            time, period = ((folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        return int(time) / int(period) if int(time) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # "max" is not a number
        return None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
