"""Synchronous client."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx

from promptir_client.batches import Images, RestoredBatch, archive_of
from promptir_client.connection import LATE, Connection, lost_by, reply_of
from promptir_client.images import Image, upload_of
from promptir_client.jobs import Job, Progress, id_of
from promptir_client.options import JobOptions, RestoreOptions, check_options
from promptir_client.own_process import OwnProcess
from promptir_client.restored import Restored
from promptir_client.retries import Retries
from promptir_client.steps import Flow, Listen, NextLine, Outcome, Pause, Send, Step

T = TypeVar("T")


class Client:
    """Client of one server; safe to share between threads and to use after a fork.

    `timeout` limits a whole call in seconds, retries included. Pass `http` to configure the connection (certificates, a
    proxy); the caller closes it.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        timeout: float | None = 300.0,
        *,
        retries: Retries | None = None,
        http: httpx.Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = Connection(url, api_key, timeout, retries or Retries())
        self._http: OwnProcess[httpx.Client] = OwnProcess(lambda: http or httpx.Client(), given=http is not None)
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if (http := self._http.to_close()) is not None:
            http.close()

    def restore(self, image: Image, **options: Unpack[RestoreOptions]) -> Restored:
        """Restore a photo. Raises a PromptIRError; TypeError or ValueError for an invalid image or option."""
        check_options(options)
        return self._run(self._connection.call().restore(upload_of(image), options))

    def submit(self, image: Image, **options: Unpack[JobOptions]) -> Job:
        """Submit a photo as a job, which survives lost connections and restarts of the server."""
        check_options(options, JobOptions)
        return self._run(self._connection.call().submit(upload_of(image), options))

    def submit_batch(self, images: Images, **options: Unpack[JobOptions]) -> Job:
        """Submit several photos as one job: paths, images by name, or other images."""
        check_options(options, JobOptions)
        return self._run(self._connection.call().submit(archive_of(images), options))

    def job(self, job: Job | str) -> Job:
        """Return the state and progress of a job."""
        return self._run(self._connection.call().look(id_of(job)))

    def wait(self, job: Job | str, progress: Progress | None = None, timeout: float | None = None) -> Restored:
        """Follow a job to its end and fetch its result; without `timeout`, waits indefinitely.

        `progress` is called at each change. Raises JobFailed if the job ends without a result.
        """
        return self._run(self._connection.waiting(timeout).wait(id_of(job), progress))

    def wait_batch(
        self, job: Job | str, progress: Progress | None = None, timeout: float | None = None
    ) -> RestoredBatch:
        """Follow a batch to its end and fetch its results; raises JobFailed if no photo was restored."""
        return self._run(self._connection.waiting(timeout).wait_batch(id_of(job), progress))

    def cancel(self, job: Job | str) -> None:
        """Cancel a job, or delete a finished one with its result."""
        self._run(self._connection.call().cancel(id_of(job)))

    def _run(self, flow: Flow[T]) -> T:
        with closing(_Steps(self._http.get(), self._connection, self._sleep)) as steps:
            try:
                step = next(flow)
                while True:
                    step = flow.send(steps.take(step))
            except StopIteration as end:
                result: T = end.value
                return result


class _Steps:
    """Executor of one flow's steps, which holds its open event stream."""

    def __init__(self, http: httpx.Client, connection: Connection, sleep: Callable[[float], None]) -> None:
        self._http = http
        self._connection = connection
        self._sleep = sleep
        self._heard: httpx.Response | None = None
        self._lines: Iterator[str] = iter(())

    def close(self) -> None:
        if self._heard is not None:
            self._heard.close()

    def take(self, step: Step) -> Outcome:
        try:
            match step:
                case Pause():
                    self._sleep(step.seconds)
                    return None
                case NextLine():
                    return next(self._lines, None)
                case _:
                    return self._send(step)
        except httpx.RequestError as error:
            return lost_by(error)

    def _send(self, step: Send | Listen) -> Outcome:
        if step.timeout_s <= 0:
            return LATE
        until = self._connection.clock() + step.timeout_s
        request = self._http.build_request(**self._connection.arguments(step.request, step.timeout_s))
        response = self._http.send(request, stream=True)
        if isinstance(step, Listen) and response.status_code == httpx.codes.OK:
            self.close()
            self._heard, self._lines = response, response.iter_lines()
            return reply_of(response, b"")
        # Read in pieces, because httpx limits the time between two pieces, not the total.
        parts = []
        try:
            for part in response.iter_bytes():
                if self._connection.clock() >= until:
                    return LATE
                parts.append(part)
        finally:
            response.close()
        return reply_of(response, b"".join(parts))
