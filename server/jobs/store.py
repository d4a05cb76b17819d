"""Store of the jobs: records and files that survive the process."""

import hashlib
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from server.errors import DiskFull, JobDamaged, JobExpired, JobsFull, JobsUnavailable, JobUnfinished, UnknownJob
from server.jobs.budget import Budget
from server.jobs.database import Database
from server.jobs.disk import Disk, Trouble
from server.jobs.file_store import Damaged, FileStore
from server.jobs.record import UNFINISHED, Answer, Order, Problem, Record, State

log = logging.getLogger(__name__)

ID_BYTES = 16
"""An id is 128 random bits in hexadecimal, because knowing it grants access to the job."""
JOB_BYTES = 16 * 1024
"""Overhead counted per job in addition to its files: partial blocks, names, its row."""
MOST_EXPIRED = 10_000  # records kept to answer 410; each takes about half a kilobyte
RETRY_AFTER_S = 30.0  # sent if only unfinished jobs use the budget, because their end is unknown


class Store:
    """Stores uploads until their job has finished and results until they expire, within the budget.

    A file is written before its row and removed after it, so a crash leaves at most files without a row, which `open`
    removes. All methods block and must be called from one thread at a time. If the disk fails they raise DiskFull or
    JobsUnavailable, and `check` detects when it is usable again.
    """

    def __init__(
        self,
        folder: Path,
        budget: Budget | int,
        keep_s: float,
        clock: Callable[[], float] = time.time,
        file_store: Callable[[Path], FileStore] = FileStore,
    ) -> None:
        self.budget = Budget(budget) if isinstance(budget, int) else budget
        self.keep_s = keep_s
        self._clock = clock
        self._disk = Disk(folder, file_store)
        self._turns: dict[str | None, int] = {}
        self.counts: dict[State, int] = dict.fromkeys(State, 0)
        """Number of jobs in each state; readable from any thread."""
        self.used_bytes = 0
        """Bytes of files, reserved results and `JOB_BYTES` per job, to compare with the budget; from any thread."""

    @property
    def trouble(self) -> Trouble | None:
        """Why the jobs cannot be used at the moment, or None; readable from any thread."""
        return self._disk.trouble

    def open(self) -> None:
        """Lock the folder, requeue jobs that were running when the server ended, and remove files without a job.

        Raises JobsUnavailable if the folder is not writable or in use by another server.
        """
        self._disk.open()
        try:
            self._settle(())
        except (DiskFull, JobsUnavailable) as error:
            self.close()
            raise JobsUnavailable(f"The jobs folder {self._disk.folder.path} cannot be used: {error.detail}") from error

    def close(self) -> None:
        """Release the folder."""
        self._disk.close()

    def check(self, running: Collection[str] = ()) -> None:
        """Check that the storage is usable, and recover once it is again; `running` are the ids of running jobs.

        Raises DiskFull or JobsUnavailable while it is unusable.
        """
        with self._disk.failing():
            if self._disk.check():
                self._settle(running)

    def _settle(self, running: Collection[str]) -> None:
        with self._disk.failing():
            with self._rows.transaction():
                for id_ in self._rows.ids(State.RUNNING).difference(running):
                    self._rows.put_back(id_, counted=True)
            self._expire()
            strays = self._disk.uploads.keep_only(self._rows.ids(*UNFINISHED))
            strays += self._disk.results.keep_only(self._rows.ids(State.DONE))
            self._count()
        folder = str(self._disk.folder.path)
        log.info("jobs opened", extra={"folder": folder, "queued": self.counts[State.QUEUED], "strays": strays})

    def submit(self, upload: bytes, order: Order, webhook: str | None = None) -> Record:
        """Store a job durably, and the URL that is told of its end; raises JobsFull or DiskFull."""
        used_bytes = len(upload) + order.result_bytes + JOB_BYTES
        with self._disk.failing():
            self._make_room(used_bytes, order.owner)
            id_ = secrets.token_hex(ID_BYTES)
            self._disk.uploads.write(id_, upload)
            try:
                with self._rows.transaction():
                    record = self._rows.insert(id_, order, used_bytes, self._clock())
                    if webhook is not None:
                        self._rows.webhooks.insert(id_, webhook)
            except sqlite3.Error:
                self._disk.uploads.remove(id_)
                raise
            self._count()
        return record

    def find(self, id_: str, owner: str | None = None) -> Record:
        """Return the record of a job; raises UnknownJob, or JobExpired after its retention time.

        With an `owner`, jobs of other owners are unknown too; jobs without an owner are open to anyone with the id.
        """
        self.expire()
        with self._disk.failing():
            record = self._rows.find(id_)
        if record is None or (owner is not None and record.order.owner not in (None, owner)):
            raise UnknownJob(f"There is no job {id_}: it never existed, was deleted, or expired long ago.")
        is_over = record.expires_at is not None and record.expires_at <= self._clock()
        if record.state is State.EXPIRED or is_over:
            raise JobExpired(f"The job {id_} has expired: results are kept for {self.keep_s / 3600:g} hours.")
        return record

    def pixels_ahead(self, record: Record) -> int:
        """Estimate the pixels that run before a job."""
        with self._disk.failing():
            return self._rows.pixels_ahead(record)

    def open_result(self, id_: str) -> tuple[Record, int, BinaryIO]:
        """Open the result of a finished job: its record, size and file, which the caller closes.

        Raises as `find`, JobUnfinished, and JobDamaged if the file has changed.
        """
        record = self.find(id_)
        if record.state is not State.DONE:
            raise JobUnfinished(f"The job {id_} is {record.state}: it has no result.", state=record.state.value)
        size, digest = record.used_bytes - JOB_BYTES, record.answer.digest if record.answer else None
        with self._disk.failing():
            try:
                return record, size, self._disk.results.open(id_, size, digest)
            except Damaged as error:
                raise self._damaged("result", id_, error) from error

    def begin_next(self) -> tuple[Record, bytes | None] | None:
        """Start the oldest job of the owner whose turn it is (round robin); returns its record and upload.

        The upload is None if the stored file has changed. Returns None if no job is queued.
        """
        with self._disk.failing():
            while waiting := self._rows.oldest(State.QUEUED):
                owner = min(waiting, key=lambda name: (self._turns.get(name, 0), waiting[name]))
                self._turns[owner] = max(self._turns.values(), default=0) + 1
                self._turns = {name: turn for name, turn in self._turns.items() if name in waiting}
                if (begun := self._begin(waiting[owner])) is not None:
                    return begun
        return None

    def _begin(self, number: int) -> tuple[Record, bytes | None] | None:
        """Start a queued job; a job whose record cannot be read fails instead."""
        try:
            record = self._rows.numbered(number)
        except JobDamaged as error:
            log.error("a job cannot be started", extra={"reason": error.detail})
            self._end(self._rows.id_of(number), State.FAILED, JOB_BYTES)
            return None
        self._disk.make_sure_of(0)
        upload = self._upload(record)
        with self._rows.transaction():
            self._rows.begin(record.id)
        self._count()
        return self._rows.numbered(number), upload

    def put_back(self, id_: str, *, counted: bool = False) -> None:
        """Return a running job to the queue; `counted` if the job itself may have caused the interruption."""
        with self._disk.failing():
            with self._rows.transaction():
                self._rows.put_back(id_, counted=counted)
            self._count()

    def finish(self, id_: str, result: bytes, answer: Answer) -> bool:
        """Store the result of a job and mark it as done; returns False if the job was cancelled meanwhile.

        Raises DiskFull if the result does not fit on the disk or in the budget; the job is unchanged then.
        """
        with self._disk.failing():
            try:
                self._make_sure_of_room(max(0, len(result) - self._set_aside(id_)))
                self._disk.results.write(id_, result)
                answer = replace(answer, digest=hashlib.sha256(result).hexdigest())
                ended = self._end(id_, State.DONE, len(result) + JOB_BYTES, answer=answer)
            except JobsFull as error:
                raise DiskFull(error.detail, **error.extensions) from error
            except (OSError, sqlite3.Error):
                with suppress(OSError):
                    self._disk.results.remove(id_)
                raise
            if not ended:
                self._disk.results.remove(id_)
        return ended

    def fail(self, id_: str, problem: Problem) -> bool:
        """Mark an unfinished job as failed; returns False if it has already finished."""
        with self._disk.failing():
            return self._end(id_, State.FAILED, JOB_BYTES, problem=problem)

    def give_up(self, id_: str) -> State:
        """Cancel an unfinished job, or delete a finished one; returns its former state. Raises as `find`."""
        try:
            state = self.find(id_).state
        except JobDamaged:  # a damaged job can be deleted too
            state = State.FAILED
        with self._disk.failing():
            if state.is_final:
                with self._rows.transaction():
                    self._rows.delete(id_)
                    self._rows.batches.forget_empty()
                self._disk.uploads.remove(id_)
                self._disk.results.remove(id_)
                self._count()
            else:
                self._end(id_, State.CANCELLED, JOB_BYTES)
        return state

    def expire(self) -> None:
        """Remove expired results; postponed while the disk fails."""
        with suppress(DiskFull, JobsUnavailable), self._disk.failing():
            self._expire()

    def _end(
        self, id_: str, state: State, used_bytes: int, answer: Answer | None = None, problem: Problem | None = None
    ) -> bool:
        with self._rows.transaction():
            ended = self._rows.end(id_, state, used_bytes, self._clock() + self.keep_s, answer=answer, problem=problem)
        if ended:
            self._disk.uploads.remove(id_)
            self._count()
        return ended

    def _expire(self) -> None:
        now = self._clock()
        if (moment := self._rows.next_expiry()) is None or moment > now:
            return
        with self._rows.transaction():
            expired = self._rows.expire(now)
            self._rows.forget(now - self.keep_s, MOST_EXPIRED)
        for id_ in expired:
            self._disk.results.remove(id_)
        self._count()

    def _upload(self, record: Record) -> bytes | None:
        try:
            with self._disk.uploads.open(record.id, record.used_bytes - record.order.result_bytes - JOB_BYTES) as file:
                return file.read()
        except Damaged as error:
            self._damaged("upload", record.id, error)
            return None

    def _damaged(self, what: str, id_: str, error: Damaged) -> JobDamaged:
        if (fault := self._disk.folder.fault()) is not None:
            raise self._disk.noted(JobsUnavailable(f"The jobs folder {fault}.")) from error
        log.error(f"a stored {what} has changed on the disk", extra={"job": id_, "error": str(error)})
        return JobDamaged(f"The stored {what} of the job {id_} has changed on the disk: {error}.")

    def _make_room(self, more_bytes: int, owner: str | None) -> None:
        """Check that new jobs of an owner may take `more_bytes`; raises JobsFull or DiskFull."""
        self._disk.make_sure_of_place()
        self._expire()
        if owner is not None:
            self.budget.check_share(owner, more_bytes, self._rows.used_by_owner(), self._wait_s)
        self._make_sure_of_room(more_bytes)

    def _set_aside(self, id_: str) -> int:
        return 0 if (record := self._rows.find(id_)) is None else record.order.result_bytes

    def _make_sure_of_room(self, more_bytes: int) -> None:
        self.budget.check(more_bytes, self.used_bytes, self._wait_s)
        self._disk.make_sure_of(more_bytes)

    def _wait_s(self, owner: str | None = None) -> float:
        """Return the seconds until the next result expires, of all owners or of one."""
        moment = self._rows.next_expiry(owner)
        return RETRY_AFTER_S if moment is None else max(1.0, moment - self._clock())

    def _count(self) -> None:
        totals = self._rows.totals()
        self.counts = {state: totals.get(state, (0, 0))[0] for state in State}
        self.used_bytes = sum(used for _, used in totals.values())

    @property
    def _rows(self) -> Database:
        return self._disk.rows
