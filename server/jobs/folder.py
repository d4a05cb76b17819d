"""The Folder: where the jobs are kept, held by one server, and whether that is still there and can be written."""

import errno
import fcntl
import os
import sqlite3
import stat
from pathlib import Path

from server.errors import DiskFull, JobsUnavailable

DATABASE, UPLOADS, RESULTS = "jobs.sqlite3", "uploads", "results"
_LOCK = "lock"
_MAGIC = b"SQLite format 3\0"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

Identity = tuple[int, int]


class Folder:
    """A folder that may go away, come back or be another one while it is used. All methods block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._held: dict[str, Identity] = {}
        self._device: int | None = None

    def take(self) -> None:
        """Hold it until `give_back`, or the end of the process; raises JobsUnavailable where another server does."""
        self._lock = _locked(self.path / _LOCK)

    def note(self) -> None:
        """Remember the files that make it this folder, for `fault` to look for."""
        self._held = {name: _identity(self.path / name) for name in (_LOCK, DATABASE)}
        self._device = self.path.stat().st_dev

    def give_back(self) -> None:
        """Let others take it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def fault(self) -> str | None:
        """What is wrong with it, to be read after "the jobs folder"; None where nothing is."""
        try:
            if any(_identity(self.path / name) != identity for name, identity in self._held.items()):
                return "is not the one that was opened"
            other = self.misplaced() or self._overwritten()
        except FileNotFoundError:
            return "is gone, or a part of it"
        except OSError as error:
            return f"cannot be looked at: {error.strerror}"
        if other is not None:
            return other
        return None if os.access(self.path, os.W_OK) else "cannot be written: it is read-only"

    def misplaced(self) -> str | None:
        """As `fault`, of a link or a file in the place of one of its own folders; raises OSError where one is gone."""
        for name in (UPLOADS, RESULTS):
            if not stat.S_ISDIR((self.path / name).lstat().st_mode):
                return f"has something else in the place of its folder {name}, and no link is followed"
        return None

    def _overwritten(self) -> str | None:
        # SQLite would go on with the pages that it holds, and say so at the next start: what was taken would be lost.
        with (self.path / DATABASE).open("rb") as file:
            found = file.read(len(_MAGIC))
        return None if found in (_MAGIC, b"") else "has a database that was overwritten"

    def is_back(self) -> bool:
        """Whether what is at its place can be used instead: a folder with jobs, or an empty one on the same disk.

        An empty folder on another disk is the place where a disk is missing, and the files would go astray.
        """
        try:
            names = {path.name for path in self.path.iterdir()}
            if names.issuperset((UPLOADS, RESULTS)) and self.misplaced() is not None:
                return False
            if not os.access(self.path, os.W_OK):
                return False
            return DATABASE in names or (not names and self.path.stat().st_dev == self._device)
        except OSError:
            return False

    def refusal(self, error: OSError | sqlite3.Error) -> DiskFull | JobsUnavailable:
        """What a client is told of an error of the disk."""
        if (fault := self.fault()) is not None:
            return JobsUnavailable(f"The jobs folder {fault}.")
        if getattr(error, "errno", None) in _FULL or getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
            return DiskFull("The disk that keeps the jobs is full and cannot be written at the moment.")
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return JobsUnavailable(f"The disk that keeps the jobs cannot be read or written at the moment: {reason}.")


def _identity(path: Path) -> Identity:
    found = path.stat()
    return found.st_dev, found.st_ino


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
