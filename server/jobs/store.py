"""The Store: jobs and their files, as they survive the process."""

import fcntl
import logging
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from server.errors import DiskFull, JobExpired, JobsFull, JobsUnavailable, JobUnfinished, UnknownJob
from server.jobs.database import Database
from server.jobs.record import Answer, Order, Problem, Record, State
from server.jobs.shelf import Shelf

log = logging.getLogger(__name__)

ID_BYTES = 16
"""An id is 128 random bits in hexadecimal: whoever knows it may read and delete the job."""
JOB_BYTES = 16 * 1024
"""What each job counts beside its files: blocks that are not full, names, its row."""
SPARE_BYTES = 32 * 2**20
"""Left free on the disk: the database must be able to say what became of a job."""
MOST_EXPIRED = 10_000
"""Records kept to answer 410; each has about half a kilobyte."""
RETRY_AFTER_S = 30.0
"""Said where only unfinished jobs take up the budget, whose end is not known."""


class Store:
    """Keeps uploads until their job has ended, results until they expire, and all of it under `max_bytes`.

    Files come first, then the row that makes them count; rows go first, then their files. So a crash leaves at most
    files without a row, which `open` removes. All methods block; they belong to one thread at a time.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        keep_s: float,
        clock: Callable[[], float] = time.time,
        shelf: Callable[[Path], Shelf] = Shelf,
    ) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.keep_s = keep_s
        self._clock = clock
        self._uploads = shelf(folder / "uploads")
        self._results = shelf(folder / "results")
        self._database: Database | None = None
        self._lock: int | None = None
        self.counts: dict[State, int] = dict.fromkeys(State, 0)
        """Jobs by state, to be read from any thread."""
        self.used_bytes = 0
        """Counted against the budget: files, what is set aside for results, `JOB_BYTES` a job; from any thread."""

    def open(self) -> None:
        """Take the folder, queue again what ran when the server ended and remove what belongs to no job.

        Raises JobsUnavailable where the folder cannot be written or is another server's.
        """
        try:
            self._uploads.make()
            self._results.make()
            self._lock = _locked(self.folder / "lock")
            self._database = Database(self.folder / "jobs.sqlite3")
            with self._rows.transaction():
                self._rows.queue_all_running()
            self._expire()
            strays = self._uploads.keep_only(self._rows.ids(State.QUEUED))
            strays += self._results.keep_only(self._rows.ids(State.DONE))
        except (OSError, sqlite3.Error, JobsUnavailable) as error:
            self.close()
            if isinstance(error, JobsUnavailable):
                raise
            raise JobsUnavailable(f"The jobs folder {self.folder} cannot be used: {error}") from error
        self._count()
        log.info(
            "jobs opened", extra={"folder": str(self.folder), "queued": self.counts[State.QUEUED], "strays": strays}
        )

    def close(self) -> None:
        """Give the folder back."""
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def submit(self, upload: bytes, order: Order) -> Record:
        """Store a job; once this returns, no crash loses it. Raises JobsFull or DiskFull."""
        self._expire()
        used_bytes = len(upload) + order.result_bytes + JOB_BYTES
        self._make_sure_of_room(used_bytes)
        id_ = secrets.token_hex(ID_BYTES)
        try:
            self._uploads.write(id_, upload)
            try:
                with self._rows.transaction():
                    record = self._rows.insert(id_, order, used_bytes, self._clock())
            except sqlite3.Error:
                self._uploads.remove(id_)
                raise
        except (OSError, sqlite3.Error) as error:
            raise self._disk_full(error) from error
        self._count()
        return record

    def find(self, id_: str, owner: str | None = None) -> Record:
        """Raises UnknownJob, or JobExpired once its kept time is over.

        With an owner, a job of another one is not known either; one that has none belongs to whoever has its id.
        """
        self._expire()
        record = self._rows.find(id_)
        if record is None or (owner is not None and record.order.owner not in (None, owner)):
            raise UnknownJob(f"There is no job {id_}; it was never here, was deleted, or is long expired.")
        if record.state is State.EXPIRED:
            raise JobExpired(f"The job {id_} was kept for {self.keep_s / 3600:g} hours after its end.")
        return record

    def pixels_ahead(self, record: Record) -> int:
        """Pixels of the jobs that are queued before this one."""
        return self._rows.pixels_ahead(record.number)

    def open_result(self, id_: str) -> tuple[Record, int, BinaryIO]:
        """The record, size and file of a done job's result, for the caller to close; as `find`, and JobUnfinished."""
        record = self.find(id_)
        if record.state is not State.DONE:
            raise JobUnfinished(f"The job {id_} is {record.state}: it has no result.", state=record.state.value)
        return record, self._results.size(id_), self._results.open(id_)

    def begin_next(self) -> tuple[Record, bytes | None] | None:
        """Begin the job that waits longest: its record, and its upload, None where that cannot be read."""
        waiting = self._rows.oldest(State.QUEUED)
        if waiting is None:
            return None
        with self._rows.transaction():
            self._rows.begin(waiting.id)
        self._count()
        try:
            upload = self._uploads.read(waiting.id)
        except OSError as error:
            log.error("an upload cannot be read", extra={"job": waiting.id, "error": str(error)})
            upload = None
        return self.find(waiting.id), upload

    def put_back(self, id_: str, *, counted: bool = False) -> None:
        """Queue a running job again; `counted` where this start of it may be why it did not end."""
        with self._rows.transaction():
            self._rows.put_back(id_, counted=counted)
        self._count()

    def finish(self, id_: str, result: bytes, answer: Answer) -> bool:
        """Keep the result of an unfinished job: it is done. False where it was cancelled meanwhile.

        Raises DiskFull where the disk or the budget cannot hold it; the job is as it was then.
        """
        try:
            self._make_sure_of_room(max(0, len(result) - self._set_aside(id_)))
            self._results.write(id_, result)
            ended = self._end(id_, State.DONE, len(result) + JOB_BYTES, answer=answer)
        except JobsFull as error:
            raise DiskFull(error.detail, **error.extensions) from error
        except (OSError, sqlite3.Error) as error:
            self._results.remove(id_)
            raise self._disk_full(error) from error
        if not ended:
            self._results.remove(id_)
        return ended

    def fail(self, id_: str, problem: Problem) -> bool:
        """End an unfinished job without a result; False where it has ended."""
        return self._end(id_, State.FAILED, JOB_BYTES, problem=problem)

    def give_up(self, id_: str) -> State:
        """Cancel an unfinished job, or forget one that has ended and its result: what it was. As `find`."""
        state = self.find(id_).state
        if state.is_final:
            with self._rows.transaction():
                self._rows.delete(id_)
            self._results.remove(id_)
            self._count()
        else:
            self._end(id_, State.CANCELLED, JOB_BYTES)
        return state

    def expire(self) -> None:
        """Remove the results whose time is over."""
        self._expire()

    def _end(
        self, id_: str, state: State, used_bytes: int, answer: Answer | None = None, problem: Problem | None = None
    ) -> bool:
        with self._rows.transaction():
            ended = self._rows.end(id_, state, used_bytes, self._clock() + self.keep_s, answer=answer, problem=problem)
        if ended:
            self._uploads.remove(id_)
            self._count()
        return ended

    def _expire(self) -> None:
        now = self._clock()
        moment = self._rows.next_expiry()
        if moment is None or moment > now:
            return
        with self._rows.transaction():
            expired = self._rows.expire(now)
            self._rows.forget(now - self.keep_s, MOST_EXPIRED)
        for id_ in expired:
            self._results.remove(id_)
        self._count()

    def _set_aside(self, id_: str) -> int:
        record = self._rows.find(id_)
        return 0 if record is None else record.order.result_bytes

    def _make_sure_of_room(self, more_bytes: int) -> None:
        if more_bytes > self.max_bytes:
            raise DiskFull(
                f"The job needs {more_bytes} bytes, upload and result together; all jobs may have {self.max_bytes}.",
                jobs_max_bytes=self.max_bytes,
            )
        if self.used_bytes + more_bytes > self.max_bytes:
            moment = self._rows.next_expiry()
            wait_s = RETRY_AFTER_S if moment is None else max(1.0, moment - self._clock())
            raise JobsFull(
                f"Of the {self.max_bytes} bytes that jobs may have, {self.used_bytes} are taken. Results go when they "
                "expire or are deleted.",
                wait_s,
                jobs_max_bytes=self.max_bytes,
            )
        if shutil.disk_usage(self.folder).free < more_bytes + SPARE_BYTES:
            raise DiskFull(f"The disk has no room for the {more_bytes} bytes of the job, though its budget has.")

    def _disk_full(self, error: Exception) -> DiskFull:
        log.error("the jobs folder cannot be written", extra={"error": str(error)})
        return DiskFull("The disk that keeps the jobs cannot be written at the moment.")

    def _count(self) -> None:
        totals = self._rows.totals()
        self.counts = {state: totals.get(state, (0, 0))[0] for state in State}
        self.used_bytes = sum(used for _, used in totals.values())

    @property
    def _rows(self) -> Database:
        if self._database is None:
            raise RuntimeError("the store is not open")
        return self._database


def _locked(path: Path) -> int:
    """Hold a lock that ends with the process, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise JobsUnavailable(
            f"The jobs folder {path.parent} is in use by another server: give each its own."
        ) from None
    return descriptor
