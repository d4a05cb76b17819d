"""Running job and the status shown to clients."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from server.jobs.record import Batch, Record, State


@dataclass(slots=True)
class Run:
    """Running job: its task, start time and finished tiles; `withdrawn` once its client cancelled it, `ended` once its
    outcome is stored.

    `total` is 0 until the image has been split into tiles.
    """

    record: Record
    task: asyncio.Task[None]
    began: float
    done: int = 0
    total: int = 0
    withdrawn: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """Snapshot of a job: its record, finished and total tiles, and the predicted seconds left (None if unknown)."""

    record: Record
    done: int = 0
    total: int = 0
    left_s: float | None = None

    @property
    def state(self) -> State:
        """State of the job."""
        return self.record.state

    @property
    def mark(self) -> str:
        """Version tag of this snapshot, valid across restarts: equal marks mean that nothing has changed."""
        return f"{self.record.state}-{self.record.starts}-{self.done}"


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """Snapshot of a batch: the snapshot of each photo in the order of the upload, and the predicted seconds left."""

    batch: Batch
    photos: Sequence[Status]
    left_s: float | None = None

    @property
    def counts(self) -> Counter[State]:
        """Number of photos in each state."""
        return Counter(photo.state for photo in self.photos)

    @property
    def state(self) -> State:
        """State of the whole: done once no photo is left and at least one was restored."""
        counts = self.counts
        if counts[State.QUEUED] == len(self.photos):
            return State.QUEUED
        if counts[State.QUEUED] or counts[State.RUNNING]:
            return State.RUNNING
        order = State.DONE, State.EXPIRED, State.FAILED, State.CANCELLED
        return next(state for state in order if counts[state])

    @property
    def done(self) -> int:
        """Finished tiles of all photos."""
        return sum(photo.done for photo in self.photos)

    @property
    def total(self) -> int:
        """Tiles of all photos; 0 while one is unknown."""
        known = [photo.total for photo in self.photos if not (photo.state.is_final and photo.state is not State.DONE)]
        return sum(known) if all(known) else 0

    @property
    def mark(self) -> str:
        """Version tag of this snapshot, as that of a job."""
        ended = sum(photo.state.is_final for photo in self.photos)
        return f"{self.state}-{sum(photo.record.starts for photo in self.photos)}-{self.done}-{ended}"
