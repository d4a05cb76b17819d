"""Aside: work on bytes, on the event loop where they are few and in a thread where they are many."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Below it the way to a thread and back costs more than it takes off the loop.
QUICK_BYTES = 64 * 1024


async def aside(work: Callable[[], T], size: int) -> T:
    """Do work on `size` bytes, and return what it returns."""
    return work() if size <= QUICK_BYTES else await asyncio.to_thread(work)
