"""SQLite table of the stored jobs: queries only, no rules."""

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
from server.jobs.batch_table import BatchTable
from server.jobs.record import UNFINISHED, Answer, Order, Problem, Record, State
from server.jobs.webhook_table import WebhookTable

VERSION = 3
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
    answer TEXT,
    batch TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number, bytes);
CREATE INDEX IF NOT EXISTS jobs_by_expiry ON jobs (expires_at) WHERE expires_at IS NOT NULL;
"""
# Run after the migration: databases of older versions lack these columns.
_BY_NEW_COLUMNS = """
CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner, state, number, pixels, bytes);
CREATE INDEX IF NOT EXISTS jobs_by_batch ON jobs (batch, number) WHERE batch IS NOT NULL;
"""
_ADDED = {1: ("owner", "batch"), 2: ("batch",)}
"""Columns that a database of each older version lacks."""
_COLUMNS = (
    "id, number, state, options, filename, pixels, result_bytes, deadline_at, owner, starts, created_at, bytes, "
    "expires_at, problem, answer, batch"
)


class Database:
    """One SQLite connection with a write-ahead log; each commit is durable when it returns. One thread at a time."""

    def __init__(self, path: Path) -> None:
        # Autocommit: only `transaction` groups statements.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            self._connection.close()
            raise JobsUnavailable(f"{path} was written by a newer version of the server: give it another jobs folder.")
        self._connection.executescript(_TABLE)
        if version in _ADDED:
            with self.transaction():  # atomic, so that no column is ever added twice
                for column in _ADDED[version]:
                    self._connection.execute(f"ALTER TABLE jobs ADD COLUMN {column} TEXT")
                self._connection.execute(f"PRAGMA user_version = {VERSION}")
        self._connection.executescript(_BY_NEW_COLUMNS)
        self.batches = BatchTable(self._connection)
        self.webhooks = WebhookTable(self._connection)
        self.touch()

    def touch(self) -> None:
        """Rewrite the schema version to test that the database is writable; raises sqlite3.Error if not."""
        self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit the block's changes together, or roll them all back if it raises."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def insert(
        self,
        id_: str,
        order: Order,
        used_bytes: int,
        created_at: float,
        *,
        batch: str | None = None,
        problem: Problem | None = None,
    ) -> Record:
        """Insert a job and return its record: queued, or failed with a `problem`."""
        state = State.QUEUED if problem is None else State.FAILED
        number = self._connection.execute(
            "INSERT INTO jobs (id, state, bytes, options, filename, pixels, result_bytes, deadline_at, owner, "
            "created_at, problem, batch) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                id_,
                state,
                used_bytes,
                order.options,
                order.filename,
                order.pixels,
                order.result_bytes,
                order.deadline_at,
                order.owner,
                created_at,
                None if problem is None else json.dumps(problem),
                batch,
            ),
        ).lastrowid
        return Record(id_, number or 0, state, order, 0, created_at, used_bytes, problem=problem, batch=batch)

    def find(self, id_: str) -> Record | None:
        """Return the record of a job, or None if there is none."""
        row = self._connection.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (id_,)).fetchone()  # noqa: S608
        return None if row is None else _record(row)

    def members(self, batch: str) -> list[Record]:
        """Return the records of the jobs of a batch, in the order of their submission."""
        query = f"SELECT {_COLUMNS} FROM jobs WHERE batch = ? ORDER BY number"  # noqa: S608
        return [_record(row) for row in self._connection.execute(query, (batch,)).fetchall()]

    def states_of(self, batch: str) -> dict[str, State]:
        """Return the state of each job of a batch, by id."""
        rows = self._connection.execute("SELECT id, state FROM jobs WHERE batch = ? ORDER BY number", (batch,))
        return {id_: State(state) for id_, state in rows.fetchall()}

    def oldest(self, state: State) -> dict[str | None, int]:
        """Return the number of each owner's oldest job in a state."""
        query = "SELECT owner, MIN(number) FROM jobs WHERE state = ? GROUP BY owner"
        return dict(self._connection.execute(query, (state,)).fetchall())

    def id_of(self, number: int) -> str:
        """Return the id of the job with this number."""
        (id_,) = self._connection.execute("SELECT id FROM jobs WHERE number = ?", (number,)).fetchone()
        return str(id_)

    def numbered(self, number: int) -> Record:
        """Return the record of the job with this number."""
        query = f"SELECT {_COLUMNS} FROM jobs WHERE number = ?"  # noqa: S608
        return _record(self._connection.execute(query, (number,)).fetchone())

    def ids(self, *states: State) -> set[str]:
        """Return the ids of all jobs in the given states."""
        marks = ", ".join("?" * len(states))
        query = f"SELECT id FROM jobs WHERE state IN ({marks})"  # noqa: S608
        return {id_ for (id_,) in self._connection.execute(query, states)}

    def pixels_waiting(self, before: int | None = None) -> dict[str | None, int]:
        """Return the pixels of each owner's queued jobs, or only of those submitted before job number `before`."""
        query = "SELECT owner, SUM(pixels) FROM jobs WHERE state = ? AND number < ? GROUP BY owner"
        return dict(self._connection.execute(query, (State.QUEUED, before or sys.maxsize)).fetchall())

    def pixels_ahead(self, record: Record) -> int:
        """Estimate the pixels that run before a job: its owner's earlier jobs, and as much of each other owner."""
        mine = self.pixels_waiting(record.number).get(record.order.owner, 0)
        others = {**self.pixels_waiting(), record.order.owner: 0}
        return mine + sum(min(pixels, mine + record.order.pixels) for pixels in others.values())

    def begin(self, id_: str) -> None:
        """Mark a job as running and count the start."""
        self._connection.execute("UPDATE jobs SET state = ?, starts = starts + 1 WHERE id = ?", (State.RUNNING, id_))

    def put_back(self, id_: str, *, counted: bool) -> None:
        """Return a running job to the queue; unless `counted`, that start is subtracted again."""
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
        """Give an unfinished job its final state; returns False if it is gone or already finished.

        The results of a batch are kept from the end of its last job.
        """
        answer_json = None if answer is None else _ANSWER.dump_json(answer).decode()
        problem_json = None if problem is None else json.dumps(problem)
        changed = self._connection.execute(
            "UPDATE jobs SET state = ?, bytes = ?, expires_at = CASE WHEN batch IS NULL THEN ? END, answer = ?, "
            "problem = ? WHERE id = ? AND state IN (?, ?)",
            (state, used_bytes, expires_at, answer_json, problem_json, id_, *UNFINISHED),
        ).rowcount
        if changed:
            self.batches.keep_until(id_, expires_at)
            self.webhooks.release(id_)
        return changed == 1

    def expire(self, now: float) -> list[str]:
        """Mark jobs whose retention time has passed as expired; returns their ids."""
        query = "UPDATE jobs SET state = ?, bytes = 0 WHERE expires_at <= ? AND state <> ? RETURNING id"
        return [id_ for (id_,) in self._connection.execute(query, (State.EXPIRED, now, State.EXPIRED)).fetchall()]

    def forget(self, expired_before: float, most: int) -> None:
        """Delete records that expired before a given time, and all but the newest `most` expired ones."""
        self._connection.execute(
            "DELETE FROM jobs WHERE state = ? AND (expires_at <= ? OR number <= "
            "(SELECT number FROM jobs WHERE state = ? ORDER BY number DESC LIMIT 1 OFFSET ?))",
            (State.EXPIRED, expired_before, State.EXPIRED, most),
        )
        self.batches.forget_empty()

    def delete(self, id_: str) -> None:
        """Delete the record of a job."""
        self._connection.execute("DELETE FROM jobs WHERE id = ?", (id_,))

    def totals(self) -> dict[State, tuple[int, int]]:
        """Return (number of jobs, bytes) for each state."""
        rows = self._connection.execute("SELECT state, COUNT(*), SUM(bytes) FROM jobs GROUP BY state")
        return {State(state): (count, used) for state, count, used in rows}

    def used_by_owner(self) -> dict[str | None, int]:
        """Return the bytes used by each owner's jobs."""
        return dict(self._connection.execute("SELECT owner, SUM(bytes) FROM jobs GROUP BY owner").fetchall())

    def next_expiry(self, owner: str | None = None) -> float | None:
        """Return when the next result expires, of all owners or of one; None if there is none."""
        (moment,) = self._connection.execute(
            "SELECT MIN(expires_at) FROM jobs WHERE expires_at IS NOT NULL AND state <> ? AND (? IS NULL OR owner = ?)",
            (State.EXPIRED, owner, owner),
        ).fetchone()
        return None if moment is None else float(moment)


def _record(row: tuple[Any, ...]) -> Record:
    """Parse a row; raises JobDamaged if it was modified from outside."""
    id_, number, state, *order, starts, created_at, used_bytes, expires_at, problem, answer, batch = row
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
                "batch": batch,
            }
        )
        _ = record.order.restore_options
    except (ValueError, TypeError, RecursionError) as error:
        raise JobDamaged(f"The record of the job {id_} was changed on the disk and cannot be read.") from error
    return record
