"""Aside: work on bytes, on the event loop where they are few and in a thread where they are many."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")

# Below it the way to a thread and back costs more than it takes off the loop.
QUICK_BYTES = 64 * 1024
# To parse 60 MB holds the interpreter's lock for a tenth of a second, and makes copies: one at a time, or the loop
# would wait behind all of them for each of its turns.
LARGE_BYTES = 4 * 2**20

_one_by_one = ThreadPoolExecutor(1, "promptir-large")


async def aside(work: Callable[[], T], size: int) -> T:
    """Do work on `size` bytes, and return what it returns; of large work one piece at a time."""
    if size <= QUICK_BYTES:
        return work()
    if size <= LARGE_BYTES:
        return await asyncio.to_thread(work)
    return await asyncio.get_running_loop().run_in_executor(_one_by_one, copy_context().run, work)
