"""The WorkerThreads: run CPU work off the event loop, with one message each way for a piece of work."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


BACKGROUND_NICENESS = 10
"""Raises the niceness of background threads: a thread of normal niceness gets nine times their share of a core."""


class WorkerThreads:
    """Daemon threads that share a queue of work, started as work comes; `run` and `stop` belong to one event loop.

    In the `background`, they leave the cores to the other threads of the process where those need them (on Linux).

    `ThreadPoolExecutor` does the same with two futures and four locks for each piece, which is a tenth of what the
    event loop spends on an image.
    """

    def __init__(self, count: int, name: str, *, background: bool = False) -> None:
        self._count = count
        self._name = name
        self._background = background
        self._started = 0
        self._stopped = False
        self._waiting: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()

    async def run(self, work: Callable[[], T]) -> T:
        """Run work in a thread; work that is cancelled before it began is dropped.

        Raises RuntimeError after the stop, or if no thread can be started.
        """
        if self._stopped:
            raise RuntimeError("the threads were stopped")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.put((work, future))
        del work  # it may hold an image, which is freed with the result
        if self._started < self._count:
            self._start_another(future)
        return await future

    def stop(self) -> None:
        """Cancel waiting work and return at once; running work ends by itself."""
        self._stopped = True
        with suppress(Empty):
            while (piece := self._waiting.get_nowait()) is not None:
                piece[1].cancel()
        for _ in range(self._started):
            self._waiting.put(None)

    def _start_another(self, future: asyncio.Future[Any]) -> None:
        try:
            threading.Thread(target=self._serve, name=f"{self._name}_{self._started}", daemon=True).start()
            self._started += 1
        except RuntimeError:  # no memory for its stack
            if not self._started:
                future.cancel()
                raise

    def _serve(self) -> None:
        if self._background and sys.platform == "linux":  # elsewhere niceness is that of the whole process
            os.nice(BACKGROUND_NICENESS)
        while (piece := self._waiting.get()) is not None:
            work, future = piece
            result, error = None, None
            if not future.cancelled():
                try:
                    result = work()
                except BaseException as raised:
                    error = raised
            with suppress(RuntimeError):  # the loop is closed, so nobody waits
                future.get_loop().call_soon_threadsafe(_end, future, result, error)
            del piece, work, future, result, error


def _end(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):  # which no future takes
        future.set_exception(RuntimeError(repr(error)))
    else:
        future.set_exception(error)
