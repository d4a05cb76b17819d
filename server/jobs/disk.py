"""Storage of the jobs: folder, files and database as one unit that can fail and recover while the server runs."""

import logging
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from server.errors import DiskFull, JobsUnavailable
from server.jobs.database import Database
from server.jobs.file_store import FileStore
from server.jobs.folder import DATABASE, RESULTS, UPLOADS, Folder

log = logging.getLogger(__name__)

SPARE_BYTES = 32 * 2**20
"""Kept free on the disk so that the database can always record the outcome of a job."""

Trouble = DiskFull | JobsUnavailable


class Disk:
    """Holds the job folder, its file stores and its database, and tracks whether they are usable.

    Callers access it inside a `failing` block. All methods block.
    """

    def __init__(self, folder: Path, file_store: Callable[[Path], FileStore]) -> None:
        self.folder = Folder(folder)
        self.uploads = file_store(folder / UPLOADS)
        self.results = file_store(folder / RESULTS)
        self.trouble: Trouble | None = None
        """Why it cannot be used at the moment, or None; readable from any thread."""
        self._database: Database | None = None

    @property
    def rows(self) -> Database:
        """The database; raises JobsUnavailable if it is not open."""
        if self._database is None:
            raise self.trouble or JobsUnavailable("The jobs are not open.")
        return self._database

    def open(self) -> None:
        """Lock the folder and open the database; raises JobsUnavailable if it is not writable or in use elsewhere."""
        try:
            self.uploads.make()
            self.results.make()
            if (fault := self.folder.misplaced()) is not None:
                raise JobsUnavailable(f"The jobs folder {self.folder.path} {fault}.")
            self.folder.take()
            self._database = Database(self.folder.path / DATABASE)
            self.folder.note()
        except JobsUnavailable:
            self.close()
            raise
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise JobsUnavailable(f"The jobs folder {self.folder.path} cannot be used: {error}") from error

    def close(self) -> None:
        """Close the database and release the folder."""
        if self._database is not None:
            with suppress(sqlite3.Error):  # what was committed is already on the disk
                self._database.close()
            self._database = None
        self.folder.give_back()

    def check(self) -> bool:
        """Check that the storage is usable and reopen it once it is again.

        Returns True if it was reopened and may hold other jobs. Raises DiskFull or JobsUnavailable if it is unusable.
        """
        fault = self.folder.fault()
        if fault is not None and not self.folder.is_back():
            raise self.noted(JobsUnavailable(f"The jobs folder {fault}."))
        anew = fault is not None or (self.trouble is not None and not self._takes_a_write())
        if anew:
            self._reopen()
        if self.trouble is not None:
            self.make_sure_of(0)
            self.trouble = None
            log.info("the jobs can be used again")
        return anew

    def _takes_a_write(self) -> bool:
        """Return whether the database is writable; False if it can be neither written nor read and must be reopened."""
        try:
            self.rows.touch()
        except JobsUnavailable:  # reopening has failed before
            return False
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self.rows.next_expiry()
                raise self.noted(self.folder.refusal(error)) from error
            return False  # the file may have been replaced, which an open connection does not notice
        return True

    def _reopen(self) -> None:
        self.close()
        try:
            self.open()
        except JobsUnavailable as error:
            raise self.noted(error) from error.__cause__

    def make_sure_of_place(self) -> None:
        """Raise JobsUnavailable unless the folder is as it was opened: a job is taken where its result can be kept."""
        if (fault := self.folder.fault()) is not None:
            raise self.noted(JobsUnavailable(f"The jobs folder {fault}."))

    def make_sure_of(self, more_bytes: int) -> None:
        """Raise DiskFull unless the disk has room for `more_bytes` and the spare bytes."""
        free = shutil.disk_usage(self.folder.path).free
        if free < SPARE_BYTES:
            raise self.noted(DiskFull("The disk that stores the jobs has no room left."))
        if free < more_bytes + SPARE_BYTES:
            raise DiskFull(f"The disk has no room for the {more_bytes} bytes of the job, although the budget does.")

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Convert disk errors in the block to DiskFull or JobsUnavailable, and record them as `trouble`."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise self.noted(self.folder.refusal(error)) from error

    def noted(self, trouble: Trouble) -> Trouble:
        """Record an error as the present trouble, log it if it is new, and return it."""
        if self.trouble is None or self.trouble.detail != trouble.detail:
            log.error("the jobs cannot be used", extra={"reason": trouble.detail})
        self.trouble = trouble
        return trouble
