"""Single thread in which the job store is used."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class StoreThread:
    """Runs calls one at a time and in order, off the event loop, since each may wait for the disk."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="promptir-jobs")

    async def run(self, call: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run a call and return its result; cancelling the caller does not interrupt a call that has started."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *arguments, **named))

    def stop(self) -> None:
        """Wait for pending calls and end the thread."""
        self._threads.shutdown()
