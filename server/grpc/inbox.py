"""Inbox: receives a bounded number of messages at a time, since gRPC reads each whole before its size is known."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import cast

from server.errors import Draining, QueueFull, UploadStalled

Requests = AsyncIterator[bytes]

RETRY_AFTER_S = 1.0
# Calls that wait for a place have no message in memory.
MAX_WAITING = 512


class Inbox:
    """Receives at most `places` messages at a time, each for up to `patience_s` seconds.

    While others wait for a place, the oldest message has only `grace_s` seconds, and the newest call is served first:
    so a client that opens calls and stays silent cannot keep others out.
    """

    def __init__(self, places: int, patience_s: float, grace_s: float) -> None:
        self._free = places
        self._patience_s = patience_s
        self._grace_s = min(grace_s, patience_s)
        self._closed = False
        self._receiving: dict[asyncio.Timeout, float] = {}
        self._waiting: dict[asyncio.Future[None], None] = {}

    async def next(self, requests: Requests) -> bytes:
        """Receive the next message. Raises StopAsyncIteration at the end, UploadStalled, QueueFull, Draining."""
        if self._closed:
            raise _gone()
        await self._take_place()
        try:
            return await self._receive(requests)
        finally:
            self._free_place()

    def close(self) -> None:
        """Stop receiving and waiting at once: later messages would not be answered."""
        self._closed = True
        now = asyncio.get_running_loop().time()
        for limit in self._receiving:
            limit.reschedule(now)
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(_gone())

    async def only(self, requests: Requests) -> bytes:
        """Receive the one message of a call; raises as `next`."""
        async with opened(requests) as messages:
            return await self.next(messages)

    async def _receive(self, requests: Requests) -> bytes:
        began = asyncio.get_running_loop().time()
        limit = asyncio.timeout_at(began + (self._grace_s if self._waiting else self._patience_s))
        try:
            async with limit:
                self._receiving[limit] = began
                try:
                    return await anext(requests)
                finally:
                    del self._receiving[limit]
        except TimeoutError:
            if self._closed:
                raise _gone() from None
            raise UploadStalled(
                f"A message must come within {self._patience_s:g} seconds, and within {self._grace_s:g} while others "
                "wait to send theirs."
            ) from None

    async def _take_place(self) -> None:
        if self._free:
            self._free -= 1
            return
        self._hurry()
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        if len(self._waiting) > MAX_WAITING:
            first = next(iter(self._waiting))
            del self._waiting[first]
            first.set_exception(_full())
        try:
            async with asyncio.timeout(self._patience_s):
                await turn
        except BaseException as error:
            self._waiting.pop(turn, None)
            if turn.done() and not turn.cancelled() and turn.exception() is None:  # its place came too late
                self._free_place()
            if isinstance(error, TimeoutError):
                raise _full() from None
            raise

    def _free_place(self) -> None:
        """Give the place to the newest waiting call."""
        while self._waiting:
            turn, _ = self._waiting.popitem()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _hurry(self) -> None:
        """Shorten the time of the oldest message that still has `patience_s`."""
        now = asyncio.get_running_loop().time()
        for limit, began in self._receiving.items():
            soon, due = max(now, began + self._grace_s), limit.when()
            if due is not None and due > soon:
                limit.reschedule(soon)
                return


def opened(requests: Requests) -> AbstractAsyncContextManager[Requests]:
    """Open the messages of a call, to be closed at the end: an open iterator holds its last message in memory."""
    return aclosing(cast(AsyncGenerator[bytes, None], aiter(requests)))


def _gone() -> Draining:
    return Draining("The server has stopped.")


def _full() -> QueueFull:
    return QueueFull("Too many other messages are being received.", retry_after_s=RETRY_AFTER_S)
