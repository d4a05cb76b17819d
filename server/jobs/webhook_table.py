"""SQLite table of the webhooks: messages about finished jobs that are still to be delivered."""

import secrets
import sqlite3
from dataclasses import dataclass

from server.jobs.record import UNFINISHED

_ID_BYTES = 16
_TABLE = """
CREATE TABLE IF NOT EXISTS webhooks (
    id TEXT PRIMARY KEY,
    subject TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS webhooks_by_due ON webhooks (due_at) WHERE due_at IS NOT NULL;
"""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A message to `url` about the end of a job or batch, its `subject`; `attempts` have failed."""

    id: str
    subject: str
    url: str
    attempts: int


class WebhookTable:
    """Queries on the webhooks, on the connection of the database and inside its transactions.

    A message becomes due in the transaction that ends its job, so that a crash can repeat it but not lose it.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.executescript(_TABLE)

    def insert(self, subject: str, url: str) -> None:
        """Insert a message that becomes due when its subject ends."""
        id_ = f"msg_{secrets.token_hex(_ID_BYTES)}"
        self._connection.execute("INSERT INTO webhooks (id, subject, url) VALUES (?, ?, ?)", (id_, subject, url))

    def release(self, job: str) -> None:
        """Make the messages about a job that has ended due, and that about its batch if the batch has ended too."""
        self._connection.execute(
            "UPDATE webhooks SET due_at = 0 WHERE due_at IS NULL AND (subject = ? OR subject = "
            "(SELECT batch FROM jobs WHERE id = ? AND NOT EXISTS (SELECT 1 FROM jobs AS other "
            "WHERE other.batch = jobs.batch AND other.state IN (?, ?))))",
            (job, job, *UNFINISHED),
        )

    def due(self, now: float, most: int) -> list[Webhook]:
        """Return the messages that are due, the oldest first."""
        query = "SELECT id, subject, url, attempts FROM webhooks WHERE due_at <= ? ORDER BY due_at LIMIT ?"
        return [Webhook(*row) for row in self._connection.execute(query, (now, most))]

    def postpone(self, id_: str, due_at: float) -> None:
        """Count a failed attempt and set the time of the next one."""
        self._connection.execute("UPDATE webhooks SET attempts = attempts + 1, due_at = ? WHERE id = ?", (due_at, id_))

    def delete(self, id_: str) -> None:
        """Delete a message that was delivered or given up."""
        self._connection.execute("DELETE FROM webhooks WHERE id = ?", (id_,))
