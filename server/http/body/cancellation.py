"""Cancellation: ends the work of a request when its client leaves."""

import asyncio
from collections.abc import Callable
from types import TracebackType

from starlette.requests import ClientDisconnect
from starlette.types import Receive

# Shorter work is done before anything is gained, and a task that watches costs a fiftieth of a small image.
WATCHED_AFTER_S = 0.2


class WhileConnected:
    """Cancels its block if the client disconnects, from `WATCHED_AFTER_S` on, and then raises ClientDisconnect.

    Shorter work runs to its end, and ClientDisconnect is raised then if `has_more` says that something has arrived: the
    body must have been read before, so it can only be the end of the connection. If the task is cancelled from
    elsewhere, it stays cancelled.
    """

    def __init__(self, receive: Receive, has_more: Callable[[], bool] = lambda: False) -> None:
        self._receive = receive
        self._has_more = has_more
        self._gone = False
        self._watch: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is answered in a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(WATCHED_AFTER_S, self._begin_to_watch)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None  # its traceback will hold this, in a cycle
        if self._gone and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientDisconnect from error
        if kind is None and self._has_more():
            raise ClientDisconnect

    def _begin_to_watch(self) -> None:
        # One task that waits on the connection: a quarter of the cost of a task each for work and watch.
        self._watch = asyncio.create_task(self._cancel_when_gone())

    async def _cancel_when_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()
