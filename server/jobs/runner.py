"""Runs stored jobs through the restore pipeline."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Protocol

from server.errors import (
    BackendLost,
    DeadlineExceeded,
    DiskFull,
    Draining,
    JobDamaged,
    JobInterrupted,
    JobsUnavailable,
    NotReady,
    PromptIRServeError,
    QueueFull,
    Refused,
)
from server.errors.memory import drop_frames, is_memory_short
from server.jobs.notifier import Notifier
from server.jobs.record import Answer, Problem, Record
from server.jobs.run import Run
from server.jobs.store import Store
from server.jobs.store_thread import StoreThread
from server.jobs.throughput import Throughput
from server.restore.options import Progress, Restored
from server.restore.pipeline import Status
from server.restore.request import RestoreRequest
from server.scheduling.queue.tile import Priority

log = logging.getLogger(__name__)

CONCURRENT = 2
"""One job is decoded or encoded while the other keeps the device busy; a 24-megapixel photo takes a gigabyte."""
MOST_STARTS = 5
"""A job that was running at this many crashes, device losses or memory shortages probably caused them."""
POLL_S = 0.25
"""Polling interval while the service is not ready."""
CHECK_S = 1.0
"""Interval of checking the disk and removing expired results while idle."""
LONGEST_PAUSE_S = 5.0
"""Longest wait after a refusal, since a predicted backlog may clear sooner."""

ProblemOf = Callable[[PromptIRServeError, str], Problem]
"""Makes the problem document of an error for an instance (a URI)."""


Describe = Callable[[Restored], dict[str, object]]
"""Makes the JSON report of a restored image."""


class Restores(Protocol):
    """The part of Restorer that the runner uses."""

    @property
    def status(self) -> Status: ...

    def accepted(self) -> AbstractContextManager[None]: ...

    def deadline_in(self, patience_s: float | None) -> float | None: ...

    async def restore(self, data: bytes, request: RestoreRequest, progress: Progress = ...) -> Restored: ...


class Runner:
    """Runs at most `CONCURRENT` jobs at a time, in the store's order, while the service is ready.

    Jobs interrupted by a drain or a lost device return to the queue; any other error ends the job. Belongs to one event
    loop.
    """

    def __init__(
        self,
        store: Store,
        thread: StoreThread,
        restorer: Restores,
        problem_of: ProblemOf,
        describe: Describe,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.runs: dict[str, Run] = {}
        """Running jobs by id."""
        self.notifier = Notifier()
        self.throughput = Throughput()
        self.closing = False
        self._store = store
        self._thread = thread
        self._restorer = restorer
        self._problem_of = problem_of
        self._describe = describe
        self._clock = clock
        self._wall_clock = wall_clock
        self._news = asyncio.Event()
        self._not_before = -math.inf
        self._unsettled: set[str] = set()
        self._loop: asyncio.Task[None] | None = None

    @property
    def draining(self) -> bool:
        """Whether no further job will start before the server restarts."""
        return self.closing or self._restorer.status is Status.DRAINING

    def start(self) -> None:
        """Start the loop that runs jobs."""
        self._loop = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Start no more jobs and return the running ones to the queue."""
        self.closing = True
        self._news.set()
        if self._loop is not None:
            await self._loop
        runs = list(self.runs.values())
        for run in runs:
            run.task.cancel()
        await asyncio.gather(*(run.task for run in runs), return_exceptions=True)

    def wake(self) -> None:
        """Wake the loop: a job was submitted."""
        self._news.set()

    def withdraw(self, id_: str) -> None:
        """Stop a job that is cancelled in the store, so that its tiles leave the queue."""
        if (run := self.runs.get(id_)) is not None:
            run.withdrawn = True
            run.task.cancel()
        self.notifier.notify(id_)

    def left_s(self, run: Run) -> float | None:
        """Predict the seconds left of a running job; None if unknown."""
        return self.throughput.left(run.record.order.pixels, run.done, run.total, self._clock() - run.began)

    async def _serve(self) -> None:
        while not self.closing:
            self._news.clear()
            try:
                pause_s = await self._fill()
            except (DiskFull, JobsUnavailable):  # logged by the store; stored jobs are kept
                pause_s = CHECK_S
            except Exception:
                log.exception("the jobs cannot be read or written")
                pause_s = LONGEST_PAUSE_S
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), pause_s)

    async def _fill(self) -> float:
        """Start as many jobs as possible; returns the seconds until the next check. Raises as `Store.check`."""
        await self._thread.run(self._store.check, set(self.runs))
        for id_ in list(self._unsettled):
            await self._thread.run(self._store.put_back, id_, counted=True)
            self._unsettled.discard(id_)
        await self._thread.run(self._store.expire)
        while len(self.runs) < CONCURRENT and not self.closing:
            if self._restorer.status is not Status.READY:
                return POLL_S
            if (wait_s := self._not_before - self._clock()) > 0:
                return wait_s
            begun = await self._thread.run(self._store.begin_next)
            if begun is None:
                break
            self._launch(*begun)
        return CHECK_S

    def _launch(self, record: Record, upload: bytes | None) -> None:
        # The task starts in a later iteration of the loop, after it is in `runs`; if cancelled before, it never starts.
        task = asyncio.create_task(self._run(record, upload))
        run = self.runs[record.id] = Run(record, task, self._clock())
        task.add_done_callback(lambda _: self._leave(run))
        self.notifier.notify(record.id, record.batch)

    def _leave(self, run: Run) -> None:
        id_ = run.record.id
        if self.runs.get(id_) is run:  # it may have been requeued and started again
            del self.runs[id_]
        self.notifier.notify(id_, run.record.batch)
        self._news.set()

    async def _run(self, record: Record, upload: bytes | None) -> None:
        run = self.runs[record.id]
        try:
            await self._settle(run, upload)
        except asyncio.CancelledError:
            if not run.withdrawn:
                await self._thread.run(self._store.put_back, record.id)
        except (DiskFull, JobsUnavailable) as error:
            log.error("the end of a job cannot be stored: it will run again", extra={"job": record.id, "reason": error})
            self._unsettled.add(record.id)
        except Exception:
            log.exception("the end of a job cannot be stored: it will run again", extra={"job": record.id})
            self._unsettled.add(record.id)

    async def _settle(self, run: Run, upload: bytes | None) -> None:
        """Restore a job and store its outcome."""
        id_ = run.record.id
        try:
            stored = await self._finish(run, upload)
            run.ended = True
            seconds = self._clock() - run.began
            self.throughput.observe(run.record.order.pixels, seconds)
            log.info("job done", extra={"job": id_, "stored": stored, "duration_s": round(seconds, 3)})
        except (Draining, NotReady):
            self._not_before = self._clock() + POLL_S
            await self._thread.run(self._store.put_back, id_)
        except Refused as error:
            await self._refused(id_, error)
        except PromptIRServeError as error:
            if self._restorer.status is Status.DRAINING:
                await self._thread.run(self._store.put_back, id_)
            elif isinstance(error, JobsUnavailable) or (isinstance(error, DiskFull) and not error.is_of_budget):
                self._not_before = self._clock() + LONGEST_PAUSE_S  # the job did not cause the disk's failure
                await self._thread.run(self._store.put_back, id_)
            elif isinstance(error, BackendLost):
                await self._thread.run(self._store.put_back, id_, counted=True)
            else:
                await self._fail(id_, error)
        except Exception as error:
            if is_memory_short(error):
                await self._refused(id_, error)
                return
            log.exception("a job failed unexpectedly", extra={"job": id_})
            await self._fail(id_, PromptIRServeError("The server failed unexpectedly; its log has the reason."))

    async def _finish(self, run: Run, upload: bytes | None) -> bool:
        """Restore a job and store its result, retrying while the queue is full."""
        while True:
            try:
                with self._restorer.accepted():
                    restored = await self._restore(run, upload)
                    return await self._thread.run(
                        self._store.finish, run.record.id, restored.data, self._answer(restored)
                    )
            except QueueFull as refusal:
                pause_s = min(refusal.retry_after_s, LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def _restore(self, run: Run, upload: bytes | None) -> Restored:
        order = run.record.order
        if run.record.starts > MOST_STARTS:
            raise JobInterrupted(
                f"The job was started {MOST_STARTS} times; each time the server or a device stopped, or memory ran out."
            )
        if upload is None:
            raise JobDamaged("The stored upload of the job was changed or removed on the disk.")
        patience_s = None if order.deadline_at is None else order.deadline_at - self._wall_clock()
        if patience_s is not None and patience_s <= 0:
            raise DeadlineExceeded("the deadline passed while the job waited")

        def progress(done: int, total: int) -> None:
            run.done, run.total = done, total
            self.notifier.notify(run.record.id, run.record.batch)

        deadline = self._restorer.deadline_in(patience_s)
        request = RestoreRequest(order.restore_options, deadline, Priority.BATCH)
        try:
            return await self._restorer.restore(upload, request, progress)
        except PromptIRServeError as error:
            drop_frames(error)
            raise

    async def _refused(self, id_: str, error: Exception) -> None:
        """Return a job to the queue after a refusal or a memory shortage, counting the start."""
        log.warning("a job was refused and will run again", extra={"job": id_, "error": repr(error)})
        self._not_before = self._clock() + LONGEST_PAUSE_S
        await self._thread.run(self._store.put_back, id_, counted=True)

    async def _fail(self, id_: str, error: PromptIRServeError) -> None:
        problem = self._problem_of(error, f"urn:promptir:job:{id_}")
        await self._thread.run(self._store.fail, id_, problem)
        if (run := self.runs.get(id_)) is not None:
            run.ended = True
        log.warning("job failed", extra={"job": id_, "problem": error.slug})

    def _answer(self, restored: Restored) -> Answer:
        report = None if restored.report is None else self._describe(restored)
        size = restored.width, restored.height
        return Answer(restored.output, *size, restored.mode, restored.tiles, report, restored.dropped, restored.model)
