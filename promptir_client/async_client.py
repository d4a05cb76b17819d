"""Asynchronous client, for asyncio and trio."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Self, TypeVar, Unpack

import anyio
import anyio.to_thread
import httpx

from promptir_client.batches import Images, RestoredBatch, archive_of
from promptir_client.connection import LATE, Connection, lost_by, reply_of
from promptir_client.http_pool import HttpPool
from promptir_client.images import Image, upload_of
from promptir_client.jobs import Job, Progress, id_of
from promptir_client.options import JobOptions, RestoreOptions, check_options
from promptir_client.own_process import OwnProcess
from promptir_client.restored import Restored
from promptir_client.retries import Retries
from promptir_client.steps import Flow, Listen, NextLine, Outcome, Pause, Send, Step

T = TypeVar("T")

CONCURRENCY = 32
"""Default limit of concurrent calls; more would not help, since the server has its own queue."""


class AsyncClient:
    """Client of one server, for one event loop.

    Thousands of calls can be awaited at once: at most `concurrency` calls run and `concurrency` jobs are followed at a
    time, and a file is read only when its call starts. From then on, `timeout` limits the whole call in seconds,
    retries included. Pass `http` to configure the connection (certificates, a proxy); the caller closes it.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float | None = 300.0,
        *,
        retries: Retries | None = None,
        http: httpx.AsyncClient | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        concurrency: int = CONCURRENCY,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; it must be 1 or more")
        self._connection = Connection(url, api_key, timeout, retries or Retries())
        self._pool: OwnProcess[HttpPool] = OwnProcess(lambda: HttpPool(http, concurrency), given=http is not None)
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        if (pool := self._pool.to_close()) is not None:
            await pool.aclose()

    async def restore(self, image: Image, **options: Unpack[RestoreOptions]) -> Restored:
        """Restore a photo. Raises a PromptIRError; TypeError or ValueError for an invalid image or option."""
        check_options(options)
        async with self._pool.get().call() as http:
            return await self._run(http, self._connection.call().restore(await _upload(image), options))

    async def submit(self, image: Image, **options: Unpack[JobOptions]) -> Job:
        """Submit a photo as a job, which survives lost connections and restarts of the server."""
        check_options(options, JobOptions)
        async with self._pool.get().call() as http:
            return await self._run(http, self._connection.call().submit(await _upload(image), options))

    async def submit_batch(self, images: Images, **options: Unpack[JobOptions]) -> Job:
        """Submit several photos as one job: paths, images by name, or other images."""
        check_options(options, JobOptions)
        async with self._pool.get().call() as http:
            archive = await anyio.to_thread.run_sync(archive_of, images)
            return await self._run(http, self._connection.call().submit(archive, options))

    async def job(self, job: Job | str) -> Job:
        """Return the state and progress of a job."""
        async with self._pool.get().call() as http:
            return await self._run(http, self._connection.call().look(id_of(job)))

    async def wait(
        self,
        job: Job | str,
        progress: Progress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Restored:
        """Follow a job to its end and fetch its result; without `timeout`, waits indefinitely.

        `progress` is called at each change. Raises JobFailed if the job ends without a result.
        """
        async with self._pool.get().follow() as http:
            return await self._run(http, self._connection.waiting(timeout).wait(id_of(job), progress))

    async def wait_batch(
        self,
        job: Job | str,
        progress: Progress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> RestoredBatch:
        """Follow a batch to its end and fetch its results; raises JobFailed if no photo was restored."""
        async with self._pool.get().follow() as http:
            return await self._run(http, self._connection.waiting(timeout).wait_batch(id_of(job), progress))

    async def cancel(self, job: Job | str) -> None:
        """Cancel a job, or delete a finished one with its result."""
        async with self._pool.get().call() as http:
            await self._run(http, self._connection.call().cancel(id_of(job)))

    async def _run(self, http: httpx.AsyncClient, flow: Flow[T]) -> T:
        async with aclosing(_Steps(http, self._connection, self._sleep)) as steps:
            try:
                step = next(flow)
                while True:
                    step = flow.send(await steps.take(step))
            except StopIteration as end:
                result: T = end.value
                return result


class _Steps:
    """Executor of one flow's steps, which holds its open event stream."""

    def __init__(
        self, http: httpx.AsyncClient, connection: Connection, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._http = http
        self._connection = connection
        self._sleep = sleep
        self._heard: httpx.Response | None = None
        self._lines: AsyncIterator[str] | None = None

    async def aclose(self) -> None:
        if self._heard is not None:
            await self._heard.aclose()

    async def take(self, step: Step) -> Outcome:
        try:
            match step:
                case Pause():
                    await self._sleep(step.seconds)
                    return None
                case NextLine():
                    return None if self._lines is None else await anext(self._lines, None)
                case _:
                    return await self._send(step)
        except httpx.RequestError as error:
            return lost_by(error)

    async def _send(self, step: Send | Listen) -> Outcome:
        if step.timeout_s <= 0:
            return LATE
        until = self._connection.clock() + step.timeout_s
        request = self._http.build_request(**self._connection.arguments(step.request, step.timeout_s))
        response = await self._http.send(request, stream=True)
        if isinstance(step, Listen) and response.status_code == httpx.codes.OK:
            await self.aclose()
            self._heard, self._lines = response, response.aiter_lines()
            return reply_of(response, b"")
        # Read in pieces, because httpx limits the time between two pieces, not the total.
        parts = []
        try:
            async for part in response.aiter_bytes():
                if self._connection.clock() >= until:
                    return LATE
                parts.append(part)
        finally:
            await response.aclose()
        return reply_of(response, b"".join(parts))


async def _upload(image: Image) -> bytes:
    if isinstance(image, bytes):
        return image
    return await anyio.to_thread.run_sync(partial(upload_of, image))  # it may read a file or encode a PNG
