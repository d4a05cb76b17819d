"""SQLite table of the batches: jobs that were submitted together."""

import sqlite3

from server.jobs.record import UNFINISHED, Batch

_TABLE = """
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY,
    options TEXT NOT NULL,
    filename TEXT,
    owner TEXT,
    created_at REAL NOT NULL
) WITHOUT ROWID;
"""


class BatchTable:
    """Queries on the batches, on the connection of the database and inside its transactions."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.executescript(_TABLE)

    def insert(self, batch: Batch) -> None:
        """Insert a batch."""
        row = batch.id, batch.options, batch.filename, batch.owner, batch.created_at
        self._connection.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", row)

    def find(self, id_: str) -> Batch | None:
        """Return a batch, or None if there is none."""
        query = "SELECT id, options, filename, owner, created_at FROM batches WHERE id = ?"
        row = self._connection.execute(query, (id_,)).fetchone()
        return None if row is None else Batch(*row)

    def keep_until(self, job: str, expires_at: float) -> None:
        """Set when the results of a job's batch expire, if this job was its last unfinished one."""
        self._connection.execute(
            "UPDATE jobs SET expires_at = ? WHERE batch = (SELECT batch FROM jobs WHERE id = ?) AND expires_at IS NULL "
            "AND NOT EXISTS (SELECT 1 FROM jobs AS other WHERE other.batch = jobs.batch AND other.state IN (?, ?))",
            (expires_at, job, *UNFINISHED),
        )

    def delete(self, id_: str) -> None:
        """Delete a batch; its jobs are deleted separately."""
        self._connection.execute("DELETE FROM batches WHERE id = ?", (id_,))

    def forget_empty(self) -> None:
        """Delete the batches that have no jobs left."""
        self._connection.execute(
            "DELETE FROM batches WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.batch = batches.id)"
        )
