"""Cancellation: work that ends when its client leaves."""

import asyncio
from types import TracebackType

from starlette.requests import ClientDisconnect
from starlette.types import Receive


class WhileConnected:
    """A block that is cancelled as soon as the client disconnects, and then raises ClientDisconnect.

    The body of the request must have been read. Cancelling the task from elsewhere stays a cancellation.
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
        # A task that sleeps on the connection: a quarter of what one each for the work and the watch would cost.
        self._watch = asyncio.ensure_future(self._cancel_when_gone())

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
