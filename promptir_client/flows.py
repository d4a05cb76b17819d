"""Logic of all client calls as generators of steps, shared by the sync and async client."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from promptir_client.batches import RestoredBatch
from promptir_client.errors import JobFailed, PromptIRError, TimedOut, Unreachable, problem_of
from promptir_client.events import EventReader
from promptir_client.jobs import Job, Progress
from promptir_client.options import JobOptions, RestoreOptions, headers_of, parameters_of
from promptir_client.restored import Restored, restored_of
from promptir_client.retries import Retries
from promptir_client.steps import Flow, Listen, Lost, NextLine, Outcome, Pause, Reply, Request, Send

JOBS = "v1/jobs"
ARCHIVE = "application/zip"
_NOTHING_NEW = 204
# The server sends data at least every 15 seconds, so a longer silence means a lost connection.
SILENCE_S = 45.0


@dataclass(frozen=True)
class Call:
    """One call with its limits on attempts and time; `timeout_s` None means no time limit."""

    retries: Retries
    clock: Callable[[], float]
    timeout_s: float | None

    def restore(self, upload: bytes, options: RestoreOptions) -> Flow[Restored]:
        """Send an image and read the result."""
        request = Request("POST", "restore", parameters_of(options), headers_of(options), upload)
        return restored_of((yield from self._exchange(request)))

    def submit(self, upload: bytes, options: JobOptions) -> Flow[Job]:
        """Submit an image, or an archive of images, as a job."""
        request = Request("POST", JOBS, parameters_of(options), headers_of(options), upload)
        # A job sent twice would run twice, so retry only if the server cannot have stored it.
        return Job.of((yield from self._exchange(request, repeatable=False)).content)

    def look(self, id_: str, until: float | None = None) -> Flow[Job]:
        """Read the state and progress of a job; `until` replaces the time limit of the call."""
        return Job.of((yield from self._exchange(Request("GET", f"{JOBS}/{id_}"), until=until)).content)

    def cancel(self, id_: str) -> Flow[None]:
        """Cancel a job, or delete a finished one."""
        yield from self._exchange(Request("DELETE", f"{JOBS}/{id_}"))

    def wait(self, id_: str, progress: Progress | None) -> Flow[Restored]:
        """Follow a job to its end and fetch the result; raises JobFailed if there is none."""
        job, reply = yield from self._result(id_, progress)
        if reply.headers.get("content-type") == ARCHIVE:
            raise TypeError(f"the job {id_} is a batch: use wait_batch")
        return restored_of(reply, (job.document["result"] or {}).get("report"))

    def wait_batch(self, id_: str, progress: Progress | None) -> Flow[RestoredBatch]:
        """Follow a batch to its end and fetch its archive; raises JobFailed if no photo was restored."""
        _, reply = yield from self._result(id_, progress)
        if reply.headers.get("content-type") != ARCHIVE:
            raise TypeError(f"the job {id_} is a single photo: use wait")
        return RestoredBatch(reply.content)

    def _result(self, id_: str, progress: Progress | None) -> Flow[tuple[Job, Reply]]:
        until = self._until()
        job = yield from self._follow(id_, progress or _ignore, until)
        if job.state != "done":
            raise JobFailed(job)
        return job, (yield from self._exchange(Request("GET", f"{JOBS}/{id_}/result"), until=until))

    def _until(self) -> float:
        return math.inf if self.timeout_s is None else self.clock() + self.timeout_s

    def _exchange(self, request: Request, *, repeatable: bool = True, until: float | None = None) -> Flow[Reply]:
        until = self._until() if until is None else until
        attempt = 1
        while True:
            outcome = yield Send(request, until - self.clock())
            if isinstance(outcome, Reply) and outcome.status < 300:
                return outcome
            yield from self._recover(_error_of(outcome), attempt, until, repeatable=repeatable)
            attempt += 1

    def _follow(self, id_: str, progress: Progress, until: float) -> Flow[Job]:
        seen: str | None = None
        attempt = 1
        while True:
            headers = {"Accept": "text/event-stream"} | ({} if seen is None else {"Last-Event-ID": seen})
            request = Request("GET", f"{JOBS}/{id_}/events", headers=headers)
            outcome = yield Listen(request, min(SILENCE_S, until - self.clock()))
            if isinstance(outcome, Reply) and outcome.status == _NOTHING_NEW:
                return (yield from self.look(id_, until))
            if not isinstance(outcome, Reply) or outcome.status != 200:
                yield from self._recover(_error_of(outcome), attempt, until)
                attempt += 1
                continue
            reader = EventReader()
            while self.clock() < until and isinstance(line := (yield NextLine()), str):
                if (event := reader.feed(line)) is None:
                    continue
                seen, attempt = event.id, 1
                job = Job.of(event.data)
                progress(job)
                if job.is_final:
                    return job
            # The server is stopping or the connection broke; the stored job continues.
            yield from self._recover(Unreachable("the events of the job broke off", sent=True), attempt, until)
            attempt += 1

    def _recover(self, error: PromptIRError, attempt: int, until: float, *, repeatable: bool = True) -> Flow[None]:
        """Pause before another attempt, or raise the error if no attempt or time is left."""
        pause_s = self.retries.pause_s(error, attempt, repeatable=repeatable)
        left_s = until - self.clock()
        if pause_s is not None and left_s <= 0:
            raise TimedOut(f"the call took longer than its {self.timeout_s} seconds") from error
        if pause_s is None or pause_s >= left_s:
            raise error
        yield Pause(pause_s)


def _error_of(outcome: Outcome) -> PromptIRError:
    if isinstance(outcome, Reply):
        return problem_of(outcome.status, outcome.content, outcome.headers.get("retry-after"))
    if not isinstance(outcome, Lost):
        raise TypeError(f"{outcome!r} is not the outcome of a request")
    return TimedOut(outcome.reason) if outcome.late else Unreachable(outcome.reason, sent=outcome.sent)


def _ignore(job: Job) -> None:
    """Ignore progress."""
