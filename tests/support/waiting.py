"""Waiting in tests of several tasks and threads."""

import asyncio
from collections.abc import Callable
from typing import Any


async def all_ends(*callers: Any) -> list[Any]:
    """Return the result or the error of each of several coroutines, run at the same time."""
    return await asyncio.gather(*callers, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a change that another thread makes without an event."""
    while not condition():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.001)
