"""Journal of a watched folder: which version of which photo has been restored, kept across kills and power failures."""

import fcntl
import os
import sqlite3
import time
from pathlib import Path
from typing import TextIO

from server.cli.restore.watch.arrivals import Arrival
from server.errors import InvalidRequest

NAME = ".promptir-watch.sqlite3"
LOCK = ".promptir-watch.lock"
_TABLE = """
CREATE TABLE IF NOT EXISTS photos (
    place BLOB PRIMARY KEY,
    size INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    state TEXT NOT NULL,
    starts INTEGER NOT NULL,
    owned INTEGER NOT NULL,
    reason TEXT,
    changed_at REAL NOT NULL
) WITHOUT ROWID
"""
_STARTED, _REPLACING, _DONE, _FAILED = "started", "replacing", "done", "failed"
_UNSETTLED = (_STARTED, _REPLACING)

Row = tuple[int, int, str, int, bool]
"""Size, modification time, state, number of starts, and whether the result of an earlier version was written here."""


class Journal:
    """One row per photo, committed durably before and after its restoration. One thread at a time.

    A restoration is first recorded as `started`, or as `replacing` if a file has the name of its result. After a kill,
    the result of a `started` one is complete if it is there, since results are renamed into place.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: dict[bytes, Row] = {}
        self._lock: TextIO | None = None
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Lock and read the journal; raises InvalidRequest if another run uses it or it is damaged."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self._folder / LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise InvalidRequest(f"another run watches for {self._folder}: give each its own OUT") from None
        try:
            self._connection = sqlite3.connect(self._folder / NAME, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute(_TABLE)
            rows = self._connection.execute(
                "SELECT place, size, modified_ns, state, starts, owned FROM photos"
            ).fetchall()
        except sqlite3.Error as error:
            self.close()
            raise InvalidRequest(
                f"{self._folder / NAME} cannot be used ({error}): without it, every photo is restored again"
            ) from error
        self._rows = {
            place: (size, modified, state, starts, bool(owned)) for place, size, modified, state, starts, owned in rows
        }

    def close(self) -> None:
        """Close the journal and release its lock."""
        if self._connection is not None:
            self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def interrupted(self) -> list[Arrival]:
        """List the photos that a killed run had started while no file had the name of their result."""
        return [
            Arrival(os.fsdecode(place), size, modified_ns)
            for place, (size, modified_ns, state, _, _) in self._rows.items()
            if state == _STARTED
        ]

    def is_settled(self, arrival: Arrival) -> bool:
        """Return whether this version of a photo was restored or has failed."""
        row = self._rows.get(os.fsencode(arrival.place))
        return row is not None and row[:2] == (arrival.size, arrival.modified_ns) and row[2] not in _UNSETTLED

    def owns_result(self, arrival: Arrival) -> bool:
        """Return whether the result of an earlier version of the photo was written by this command."""
        row = self._rows.get(os.fsencode(arrival.place))
        return row is not None and row[4]

    def start(self, arrival: Arrival, *, is_free: bool) -> int:
        """Record the start of a restoration; returns how often this version was started.

        `is_free` says that no file has the name of the result.
        """
        row = self._rows.get(os.fsencode(arrival.place))
        again = row is not None and row[:2] == (arrival.size, arrival.modified_ns)
        starts = 1 + (row[3] if row is not None and again else 0)
        self._put(arrival, _STARTED if is_free else _REPLACING, starts, owned=self.owns_result(arrival))
        return starts

    def postpone(self, arrival: Arrival) -> None:
        """Take a start back: the photo itself did not end it."""
        _, _, state, starts, owned = self._rows[os.fsencode(arrival.place)]
        self._put(arrival, state, starts - 1, owned=owned)

    def finish(self, arrival: Arrival) -> None:
        """Record that the result is in its place."""
        self._put(arrival, _DONE, 0, owned=True)

    def fail(self, arrival: Arrival, reason: str) -> None:
        """Record why a photo cannot be restored; it is tried again only if it changes."""
        self._put(arrival, _FAILED, 0, owned=self.owns_result(arrival), reason=reason)

    def _put(self, arrival: Arrival, state: str, starts: int, *, owned: bool, reason: str | None = None) -> None:
        if self._connection is None:
            raise RuntimeError("the journal is not open")
        place = os.fsencode(arrival.place)
        try:
            self._connection.execute(
                "INSERT OR REPLACE INTO photos VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (place, arrival.size, arrival.modified_ns, state, starts, owned, reason, time.time()),
            )
        except sqlite3.Error as error:
            raise OSError(f"{self._folder / NAME} cannot be written: {error}") from error
        self._rows[place] = arrival.size, arrival.modified_ns, state, starts, owned
