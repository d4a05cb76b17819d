"""Connection pool of an AsyncClient, with its concurrency limits."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import httpx


class HttpPool:
    """Limits concurrent calls and followed jobs to `concurrency` each.

    Each concurrent call has its own httpx client: a shared one scans all connections and waiting requests at each
    change, so the time would grow with the square of their number. `given` is a client passed by the caller.
    """

    def __init__(self, given: httpx.AsyncClient | None, concurrency: int) -> None:
        self._given = given
        self._verify = httpx.create_ssl_context() if given is None else None  # loaded once for all clients
        self._free: list[httpx.AsyncClient] = []
        self._made: list[httpx.AsyncClient] = []
        self._calls = anyio.Semaphore(concurrency)
        self._followed = anyio.Semaphore(concurrency)

    def call(self) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """Wait for a free slot for a call and return its httpx client."""
        return self._turn(self._calls)

    def follow(self) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """Wait for a free slot for following a job; separate from call slots, so that calls never wait for jobs."""
        return self._turn(self._followed)

    async def aclose(self) -> None:
        """Close all connections except those of a client passed by the caller."""
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
            return self._free.pop()  # the latest one: its connection is the least likely to have been closed
        if self._given is not None:
            return self._given
        self._made.append(httpx.AsyncClient(verify=self._verify or True))
        return self._made[-1]
