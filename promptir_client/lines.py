"""Lines: the connections of an AsyncClient, and the turns of its calls on them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import httpx


class Lines:
    """At most `concurrency` calls at a time, and as many jobs that are followed. `given` is the caller's own client.

    Each has an httpx client of its own. A single one looks at all its connections, and at all that wait for one,
    whenever anything changes: the time of a call would grow with the square of their number.
    """

    def __init__(self, given: httpx.AsyncClient | None, concurrency: int) -> None:
        self._given = given
        self._verify = httpx.create_ssl_context() if given is None else None  # read once for all of them
        self._free: list[httpx.AsyncClient] = []
        self._made: list[httpx.AsyncClient] = []
        self._calls = anyio.Semaphore(concurrency)
        self._followed = anyio.Semaphore(concurrency)

    def call(self) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """A turn to send something and read the answer."""
        return self._turn(self._calls)

    def follow(self) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """A turn to follow a job: of a number of their own, so that calls go on while all of these wait."""
        return self._turn(self._followed)

    async def aclose(self) -> None:
        """Close all connections but those of the caller's own client."""
        for http in self._made:
            await http.aclose()

    @asynccontextmanager
    async def _turn(self, turns: anyio.Semaphore) -> AsyncIterator[httpx.AsyncClient]:
        async with turns:
            http = self._take()
            try:
                yield http
            finally:
                self._free.append(http)

    def _take(self) -> httpx.AsyncClient:
        if self._free:
            return self._free.pop()  # the last that was used: its connection is the least likely to have been closed
        if self._given is not None:
            return self._given
        self._made.append(httpx.AsyncClient(verify=self._verify or True))
        return self._made[-1]
