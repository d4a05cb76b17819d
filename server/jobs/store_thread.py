"""The store thread: the one thread in which the store is used."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class StoreThread:
    """Takes one call after the other, in their order, off the event loop: each may wait for the disk."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="promptir-jobs")

    async def run(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """The call's result; whoever is cancelled while waiting leaves a call that has begun to its end."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *arguments, **named))

    def stop(self) -> None:
        """Wait for what was called, and end the thread."""
        self._threads.shutdown()
