"""Finds photos in a watched folder that are completely written."""

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.regular_file import open_regular
from server.cli.restore.inputs import INPUT_SUFFIXES


@dataclass(frozen=True, slots=True)
class Arrival:
    """One version of a photo: its path relative to the folder, its size and its modification time."""

    place: str
    size: int
    modified_ns: int


Known = Callable[[Arrival], bool]
"""Returns whether this version of a photo needs no more work."""


class Arrivals:
    """Scans a folder for new versions of photos that have not changed for `settle_s` seconds.

    Polls, because network shares send no events. Hidden names, links and the folder `excluded` are skipped.
    """

    def __init__(self, folder: Path, excluded: Path, settle_s: float, known: Known) -> None:
        self.folder = folder
        self.settling = 0
        """Number of photos that were found too recently, at the last scan."""
        self._excluded = excluded.resolve()
        self._settle_s = settle_s
        self._known = known
        self._since: dict[Arrival, float] = {}

    def scan(self, now: float) -> list[Arrival]:
        """Return the settled photos in the order of their modification; raises OSError if the folder is gone.

        `now` is in seconds of a monotonic clock.
        """
        found = [arrival for arrival in self._walk(self.folder, "") if not self._known(arrival)]
        self._since = {arrival: self._since.get(arrival, now) for arrival in found}
        settled = [arrival for arrival in found if now - self._since[arrival] >= self._settle_s]
        self.settling = len(found) - len(settled)
        return sorted(settled, key=lambda arrival: (arrival.modified_ns, arrival.place))

    def read(self, arrival: Arrival, max_bytes: int) -> bytes | None:
        """Read a photo; None if it is gone, has changed, or another program has it open for writing.

        At most one byte more than `max_bytes` is read. Raises OSError if it cannot be read.
        """
        path = self.folder / arrival.place
        try:
            with open_regular(path, follow_links=False) as file:
                if _is_being_written(file.fileno()):
                    return None
                data = file.read(max_bytes + 1)
                found = os.fstat(file.fileno())
        except FileNotFoundError:
            return None
        return data if (found.st_size, found.st_mtime_ns) == (arrival.size, arrival.modified_ns) else None

    def _walk(self, folder: Path, below: str) -> Iterator[Arrival]:
        try:
            entries = list(os.scandir(folder))
        except OSError:
            if not below:
                raise
            return  # a folder that was removed meanwhile, or that may not be read
        for entry in entries:
            if entry.name.startswith("."):
                continue
            place = f"{below}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if Path(entry.path).resolve() != self._excluded:
                    yield from self._walk(Path(entry.path), f"{place}{os.sep}")
            elif os.path.splitext(entry.name)[1].lower() in INPUT_SUFFIXES:  # noqa: PTH122 - plain text, as in inputs
                yield from _arrival(entry, place)


def _arrival(entry: "os.DirEntry[str]", place: str) -> Iterator[Arrival]:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return
    if stat.S_ISREG(found.st_mode):
        yield Arrival(place, found.st_size, found.st_mtime_ns)


def _is_being_written(descriptor: int) -> bool:
    """Return whether a program on this machine has the file open for writing; False where that cannot be found out.

    The kernel grants a read lease only if there is no writer (fcntl(2), "Leases").
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:  # another user's file, or a file system without leases
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
