"""Shared work: equal requests that are in flight together are one."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class SharedWork(Generic[T]):
    """Tasks by key, and how many wait for each; a task is cancelled when the last of them has left."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, tuple[asyncio.Task[T], list[None]]] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._tasks

    async def join(self, key: Hashable, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait for the work of a key, which is started if nobody has; all get its result, or its error."""
        if key not in self._tasks:
            task = asyncio.create_task(start())
            task.add_done_callback(lambda task: self._ended(key, task))
            self._tasks[key] = task, []
        del start  # and the upload that it holds
        task, waiting = self._tasks[key]
        waiting.append(None)
        try:
            return await asyncio.shield(task)
        finally:
            waiting.pop()
            if not waiting and not task.done():
                self._tasks.pop(key, None)  # whoever comes now begins anew
                task.cancel()
            # An error of the task would hold this frame by its traceback, and this frame the task: uploads that were
            # refused would stay in memory until the garbage is collected.
            del task

    def _ended(self, key: Hashable, task: asyncio.Task[T]) -> None:
        if key in self._tasks and self._tasks[key][0] is task:
            del self._tasks[key]
        if not task.cancelled():
            task.exception()  # seen, even if all have left
