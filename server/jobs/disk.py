"""The Disk: the folder, files and rows of the jobs as one, which may fail and be repaired while the server runs."""

import logging
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from server.errors import DiskFull, JobsUnavailable
from server.jobs.database import Database
from server.jobs.file_store import Shelf
from server.jobs.folder import DATABASE, RESULTS, UPLOADS, Folder

log = logging.getLogger(__name__)

SPARE_BYTES = 32 * 2**20
"""Left free on the disk: the database must be able to say what became of a job."""

Trouble = DiskFull | JobsUnavailable


class Disk:
    """`open`, `close` and `check` frame its life; what uses it does so in a `failing` block. All methods block."""

    def __init__(self, folder: Path, shelf: Callable[[Path], Shelf]) -> None:
        self.folder = Folder(folder)
        self.uploads = shelf(folder / UPLOADS)
        self.results = shelf(folder / RESULTS)
        self.trouble: Trouble | None = None
        """Why it cannot be used at the moment, to be read from any thread."""
        self._database: Database | None = None

    @property
    def rows(self) -> Database:
        """The database; raises JobsUnavailable where it is not open."""
        if self._database is None:
            raise self.trouble or JobsUnavailable("The jobs are not open.")
        return self._database

    def open(self) -> None:
        """Take the folder; raises JobsUnavailable where it cannot be written or is another server's."""
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
        """Give the folder back."""
        if self._database is not None:
            with suppress(sqlite3.Error):  # a disk that fails has what was committed
                self._database.close()
            self._database = None
        self.folder.give_back()

    def check(self) -> bool:
        """See whether it can be used, as before or again; True where it was opened anew, and may hold other jobs.

        Raises DiskFull or JobsUnavailable as long as it cannot.
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
        """Whether the database can be written; False where it can neither be written nor read as it is open."""
        try:
            self.rows.touch()
        except JobsUnavailable:  # it could not be opened again
            return False
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self.rows.next_expiry()
                raise self.noted(self.folder.refusal(error)) from error
            return False  # the file may be another one by now, of which a connection knows nothing
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
        """Raise DiskFull unless there is room for so much and a little more."""
        free = shutil.disk_usage(self.folder.path).free
        if free < SPARE_BYTES:
            raise self.noted(DiskFull("The disk that keeps the jobs has no room left."))
        if free < more_bytes + SPARE_BYTES:
            raise DiskFull(f"The disk has no room for the {more_bytes} bytes of the job, though its budget has.")

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Turn what fails on the disk in the block into an error with a sentence, and note that as the trouble."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise self.noted(self.folder.refusal(error)) from error

    def noted(self, trouble: Trouble) -> Trouble:
        """The same error, said in the log where it is news."""
        if self.trouble is None or self.trouble.detail != trouble.detail:
            log.error("the jobs cannot be used", extra={"reason": trouble.detail})
        self.trouble = trouble
        return trouble
