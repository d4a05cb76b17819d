"""Jobs folder: locked by one server, and checked for being present and writable."""

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
    """Locks the jobs folder and detects if it disappears, comes back or is replaced. All methods block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._held: dict[str, Identity] = {}
        self._device: int | None = None

    def take(self) -> None:
        """Lock the folder until `give_back` or the process ends; raises JobsUnavailable if another server has it."""
        self._lock = _locked(self.path / _LOCK)

    def note(self) -> None:
        """Record the identity of the folder's files, so that `fault` can detect a replacement."""
        self._held = {name: _identity(self.path / name) for name in (_LOCK, DATABASE)}
        self._device = self.path.stat().st_dev

    def give_back(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def fault(self) -> str | None:
        """Return what is wrong with the folder, worded to follow "the jobs folder"; None if it is usable."""
        try:
            if any(_identity(self.path / name) != identity for name, identity in self._held.items()):
                return "is not the one that was opened"
            other = self.misplaced() or self._overwritten()
        except FileNotFoundError:
            return "or a part of it is missing"
        except OSError as error:
            return f"cannot be examined: {error.strerror}"
        if other is not None:
            return other
        return None if os.access(self.path, os.W_OK) else "cannot be written: it is read-only"

    def misplaced(self) -> str | None:
        """Return, worded as `fault`, which of its folders is now a link or a file; raises OSError if one is gone."""
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
        """Return whether the folder now at this path is usable: one with jobs, or an empty one on the same disk.

        An empty folder on another disk is a mount point without its disk; files written there would be lost from view.
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
        """Convert a disk error to the error that clients receive."""
        if (fault := self.fault()) is not None:
            return JobsUnavailable(f"The jobs folder {fault}.")
        if getattr(error, "errno", None) in _FULL or getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
            return DiskFull("The disk that stores the jobs is full and cannot be written at the moment.")
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return JobsUnavailable(f"The disk that stores the jobs cannot be read or written at the moment: {reason}.")


def _identity(path: Path) -> Identity:
    found = path.stat()
    return found.st_dev, found.st_ino


def _locked(path: Path) -> int:
    """Lock a file; the lock ends with the process, even if the process is killed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise JobsUnavailable(
            f"The jobs folder {path.parent} is in use by another server: give each its own."
        ) from None
    return descriptor
