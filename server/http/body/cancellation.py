"""Cancellation: ends the work of a request when its client leaves."""

import asyncio
from types import TracebackType

from starlette.requests import ClientDisconnect
from starlette.types import Receive


class WhileConnected:
    """Cancels its block as soon as the client disconnects, and then raises ClientDisconnect.

    The body must have been read before. If the task is cancelled from elsewhere, it stays cancelled.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a request is answered in a task")
        self._task = task
        self._cancelling = task.cancelling()
        # One task that waits on the connection: a quarter of the cost of a task each for work and watch.
        self._watch = asyncio.create_task(self._cancel_when_gone())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watch.cancel()
        if self._gone and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientDisconnect from error

    async def _cancel_when_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()
