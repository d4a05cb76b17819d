"""The Run: one job while it is restored."""

import asyncio
from dataclasses import dataclass

from server.jobs.record import Record


@dataclass(slots=True)
class Run:
    """A begun job, its task, the moment it began and the tiles that are done; `withdrawn` once its client cancelled it.

    `total` is 0 until the image has been cut.
    """

    record: Record
    task: asyncio.Task[None]
    began: float
    done: int = 0
    total: int = 0
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """A job as it is now: its record, tiles done and in all, and the seconds it may still take (None: nobody knows)."""

    record: Record
    done: int = 0
    total: int = 0
    left_s: float | None = None

    @property
    def mark(self) -> str:
        """Names this moment of the job, also after a restart: equal marks, nothing new."""
        return f"{self.record.state}-{self.record.starts}-{self.done}"
