"""The Database: the rows of the jobs in SQLite, and nothing of what they mean."""

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from server.errors import JobDamaged, JobsUnavailable
from server.jobs.record import Answer, Order, Problem, Record, State

VERSION = 2
_ANSWER = TypeAdapter(Answer)
_RECORD = TypeAdapter(Record)
_ORDER = tuple(field.name for field in fields(Order))
_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    starts INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL,
    options TEXT NOT NULL,
    filename TEXT,
    pixels INTEGER NOT NULL,
    result_bytes INTEGER NOT NULL,
    deadline_at REAL,
    owner TEXT,
    created_at REAL NOT NULL,
    expires_at REAL,
    problem TEXT,
    answer TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number, bytes);
CREATE INDEX IF NOT EXISTS jobs_by_expiry ON jobs (expires_at) WHERE expires_at IS NOT NULL;
"""
# Once the column is there, which folders of the first version lack.
_BY_OWNER = "CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner, state, number, pixels, bytes)"
_COLUMNS = (
    "id, number, state, options, filename, pixels, result_bytes, deadline_at, owner, starts, created_at, bytes, "
    "expires_at, problem, answer"
)


class Database:
    """One connection, for one thread at a time. Write-ahead log, and each commit is on the disk when it returns."""

    def __init__(self, path: Path) -> None:
        # Autocommit: `transaction` alone decides what belongs together.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            self._connection.close()
            raise JobsUnavailable(f"{path} was written by a newer version of the server: give it another jobs folder.")
        self._connection.executescript(_TABLE)
        if version == 1:
            with self.transaction():  # both or neither: a column is not added twice
                self._connection.execute("ALTER TABLE jobs ADD COLUMN owner TEXT")
                self._connection.execute(f"PRAGMA user_version = {VERSION}")
        self._connection.execute(
            "CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner, state, number, pixels, bytes)"
        )
        self.touch()

    def touch(self) -> None:
        """Write what is there already; raises sqlite3.Error where nothing can be written."""
        self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block or, where it raises, nothing of it."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def insert(self, id_: str, order: Order, used_bytes: int, created_at: float) -> Record:
        """Add a queued job."""
        number = self._connection.execute(
            "INSERT INTO jobs (id, state, bytes, options, filename, pixels, result_bytes, deadline_at, owner, "
            "created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                id_,
                State.QUEUED,
                used_bytes,
                order.options,
                order.filename,
                order.pixels,
                order.result_bytes,
                order.deadline_at,
                order.owner,
                created_at,
            ),
        ).lastrowid
        return Record(id_, number or 0, State.QUEUED, order, 0, created_at, used_bytes)

    def find(self, id_: str) -> Record | None:
        row = self._connection.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (id_,)).fetchone()  # noqa: S608
        return None if row is None else _record(row)

    def oldest(self, state: State) -> dict[str | None, int]:
        """The number of the oldest job of each owner."""
        query = "SELECT owner, MIN(number) FROM jobs WHERE state = ? GROUP BY owner"
        return dict(self._connection.execute(query, (state,)).fetchall())

    def id_of(self, number: int) -> str:
        (id_,) = self._connection.execute("SELECT id FROM jobs WHERE number = ?", (number,)).fetchone()
        return str(id_)

    def numbered(self, number: int) -> Record:
        query = f"SELECT {_COLUMNS} FROM jobs WHERE number = ?"  # noqa: S608
        return _record(self._connection.execute(query, (number,)).fetchone())

    def ids(self, *states: State) -> set[str]:
        marks = ", ".join("?" * len(states))
        query = f"SELECT id FROM jobs WHERE state IN ({marks})"  # noqa: S608
        return {id_ for (id_,) in self._connection.execute(query, states)}

    def pixels_waiting(self, before: int | None = None) -> dict[str | None, int]:
        """Pixels of the queued jobs of each owner, of those alone that came before a number."""
        query = "SELECT owner, SUM(pixels) FROM jobs WHERE state = ? AND number < ? GROUP BY owner"
        return dict(self._connection.execute(query, (State.QUEUED, before or sys.maxsize)).fetchall())

    def begin(self, id_: str) -> None:
        self._connection.execute("UPDATE jobs SET state = ?, starts = starts + 1 WHERE id = ?", (State.RUNNING, id_))

    def put_back(self, id_: str, *, counted: bool) -> None:
        """Queue a running job again, as if it had not begun unless `counted`."""
        self._connection.execute(
            "UPDATE jobs SET state = ?, starts = starts - ? WHERE id = ? AND state = ?",
            (State.QUEUED, int(not counted), id_, State.RUNNING),
        )

    def end(
        self,
        id_: str,
        state: State,
        used_bytes: int,
        expires_at: float,
        *,
        answer: Answer | None = None,
        problem: Problem | None = None,
    ) -> bool:
        """Give an unfinished job its final state; False where it is gone or has one."""
        told = None if answer is None else _ANSWER.dump_json(answer).decode()
        why = None if problem is None else json.dumps(problem)
        changed = self._connection.execute(
            "UPDATE jobs SET state = ?, bytes = ?, expires_at = ?, answer = ?, problem = ? "
            "WHERE id = ? AND state IN (?, ?)",
            (state, used_bytes, expires_at, told, why, id_, *_UNFINISHED),
        ).rowcount
        return changed == 1

    def expire(self, now: float) -> list[str]:
        """Mark what was kept until now; returns the ids."""
        query = "UPDATE jobs SET state = ?, bytes = 0 WHERE expires_at <= ? AND state <> ? RETURNING id"
        return [id_ for (id_,) in self._connection.execute(query, (State.EXPIRED, now, State.EXPIRED)).fetchall()]

    def forget(self, expired_before: float, most: int) -> None:
        """Delete the records that expired before a moment, and the oldest of more than `most`."""
        self._connection.execute(
            "DELETE FROM jobs WHERE state = ? AND (expires_at <= ? OR number <= "
            "(SELECT number FROM jobs WHERE state = ? ORDER BY number DESC LIMIT 1 OFFSET ?))",
            (State.EXPIRED, expired_before, State.EXPIRED, most),
        )

    def delete(self, id_: str) -> None:
        self._connection.execute("DELETE FROM jobs WHERE id = ?", (id_,))

    def totals(self) -> dict[State, tuple[int, int]]:
        """(jobs, bytes) of each state."""
        rows = self._connection.execute("SELECT state, COUNT(*), SUM(bytes) FROM jobs GROUP BY state")
        return {State(state): (count, used) for state, count, used in rows}

    def used_by_owner(self) -> dict[str | None, int]:
        return dict(self._connection.execute("SELECT owner, SUM(bytes) FROM jobs GROUP BY owner").fetchall())

    def next_expiry(self, owner: str | None = None) -> float | None:
        """When the first result expires, of all or of one owner."""
        (moment,) = self._connection.execute(
            "SELECT MIN(expires_at) FROM jobs WHERE expires_at IS NOT NULL AND state <> ? AND (? IS NULL OR owner = ?)",
            (State.EXPIRED, owner, owner),
        ).fetchone()
        return None if moment is None else float(moment)


_UNFINISHED = (State.QUEUED, State.RUNNING)


def _record(row: tuple[Any, ...]) -> Record:
    """Read a row; raises JobDamaged where somebody else has changed it."""
    id_, number, state, *order, starts, created_at, used_bytes, expires_at, problem, answer = row
    try:
        record = _RECORD.validate_python(
            {
                "id": id_,
                "number": number,
                "state": state,
                "order": dict(zip(_ORDER, order, strict=True)),
                "starts": starts,
                "created_at": created_at,
                "used_bytes": used_bytes,
                "expires_at": expires_at,
                "problem": None if problem is None else json.loads(problem),
                "answer": None if answer is None else json.loads(answer),
            }
        )
        _ = record.order.restore_options
    except (ValueError, TypeError, RecursionError) as error:
        raise JobDamaged(f"The record of the job {id_} was changed on the disk and cannot be read.") from error
    return record
