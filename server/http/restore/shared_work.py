"""Shared work: equal requests in flight run once."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SharedWork(Generic[T]):
    """Tasks by key, with the number of waiting requests; a task is cancelled when the last of them leaves."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, tuple[asyncio.Task[T], list[None]]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._tasks

    async def join(
        self, key: Hashable, start: Callable[[], Coroutine[Any, Any, T]], close: Callable[[], None] = lambda: None
    ) -> T:
        """Wait for the work of a key, started here if it is not running; all who wait get its result, or its error.

        `close` gives back what the caller holds for the work: when the work has ended, however it ended, or at once if
        it is running already.
        """
        if key in self:
            close()
        else:
            task = asyncio.create_task(start())
            task.add_done_callback(partial(self._ended, key, close))
            self._tasks[key] = task, []
        del start  # it holds the upload
        task, waiting = self._tasks[key]
        waiting.append(None)
        try:
            return await asyncio.shield(task)
        finally:
            waiting.pop()
            if not waiting and not task.done():
                self._tasks.pop(key, None)  # the next request for it starts anew
                task.cancel()
            # The traceback of the task's error holds this frame, and this frame would hold the task: refused uploads
            # would stay in memory until the next garbage collection.
            del task

    def _ended(self, key: Hashable, close: Callable[[], None], task: asyncio.Task[T]) -> None:
        if key in self._tasks and self._tasks[key][0] is task:
            del self._tasks[key]
        if not task.cancelled():
            task.exception()  # mark it as seen, even if nobody waits
        close()
