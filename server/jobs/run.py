"""Running job and the status shown to clients."""

import asyncio
from dataclasses import dataclass

from server.jobs.record import Record


@dataclass(slots=True)
class Run:
    """Running job: its task, start time and finished tiles; `withdrawn` once its client cancelled it.

    `total` is 0 until the image has been split into tiles.
    """

    record: Record
    task: asyncio.Task[None]
    began: float
    done: int = 0
    total: int = 0
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """Snapshot of a job: its record, finished and total tiles, and the predicted seconds left (None if unknown)."""

    record: Record
    done: int = 0
    total: int = 0
    left_s: float | None = None

    @property
    def mark(self) -> str:
        """Version tag of this snapshot, valid across restarts: equal marks mean that nothing has changed."""
        return f"{self.record.state}-{self.record.starts}-{self.done}"
