"""The Device: one device as the batcher sees it."""

import math
import threading
from dataclasses import dataclass

from server.scheduling.policy.cost_model import CostModel
from server.scheduling.queue.tile import Batch, PaddedShape, Priority
from server.settings import MAX_RUN_PIXELS

NO_WORK = (0.0, 0.0)
# What a tile takes is averaged over about so many runs.
RECENT_RUNS = 8


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing to run for `seconds`, unless something changes; for a fuller run of `padded_shape`, unless `tiles`
    wait."""

    seconds: float
    padded_shape: PaddedShape | None = None
    tiles: int = 0


class Device:
    """What one device may take in a run, what runs cost on it and what runs now; the backend is the worker's.

    One object for one life of a worker: a rebuilt one is a new Device of the same name, given the old cost model. The
    limits may be lowered at any time by the device's own thread; the rest belongs to the batcher and its lock.
    """

    def __init__(
        self,
        name: str,
        max_batch: int,
        max_run_pixels: int = MAX_RUN_PIXELS,
        cost_model: CostModel | None = None,
    ) -> None:
        self.name = name
        self.max_batch = max_batch
        self.max_run_pixels = max_run_pixels
        self.cost_model = cost_model or CostModel()
        self.masks = False
        """Whether its runs may hold images of several sizes."""
        self.untaken: set[PaddedShape] = set()
        """PaddedShapes that it takes no such run in, as has turned out."""
        self.running: tuple[Batch, ...] = ()
        """The batches it took and has not finished, in the order of their runs."""
        self.run_began = 0.0
        """When the first of them could start, in seconds on the batcher's clock."""
        self.pause: Pause | None = None
        """Why it runs nothing although tiles wait."""
        self.poll_at = math.inf
        """When to poll again although nothing has changed: the end of the pause."""
        self.work_s = [0.0, 0.0]
        """Predicted seconds of all that waits, if this device ran it alone: of the interactive class, and of both."""
        self.tile_s = 0.0
        """What an interactive tile usually takes: the seconds of its run by the tiles in it, over the last runs."""
        self.wake = threading.Condition()
        """What its thread waits on; with the batcher's lock from `join` on."""
        self._holding_since: float | None = None
        self._bucket_work: dict[PaddedShape, tuple[float, float]] = {}

    @property
    def is_idle(self) -> bool:
        return not self.running

    def room(self, padded_shape: PaddedShape) -> int:
        """Most images of `padded_shape` in one run; at least one, whatever its size."""
        fitting = self.max_run_pixels // (padded_shape[0] * padded_shape[1])
        return fitting if 1 <= fitting <= self.max_batch else 1 if fitting < 1 else self.max_batch

    def predict(self, padded_shape: PaddedShape, count: int) -> float:
        """Seconds of one run."""
        return self.cost_model.predict(padded_shape, count)

    def predict_all(self, padded_shape: PaddedShape, count: int) -> float:
        """Seconds of as many runs as `count` images need."""
        room = self.room(padded_shape)
        if count <= room:
            return self.cost_model.predict(padded_shape, count) if count else 0.0
        full, rest = divmod(count, room)
        seconds = full * self.cost_model.predict(padded_shape, room)
        return seconds + self.cost_model.predict(padded_shape, rest) if rest else seconds

    def remaining_s(self, now: float) -> float:
        """Predicted seconds until what runs is done; a run that is late by t is expected to take t more."""
        if not self.running:
            return 0.0
        first, elapsed = self.running[0], now - self.run_began
        seconds = abs(self.predict(first.padded_shape, len(first.tiles)) - elapsed)
        for batch in self.running[1:]:
            seconds += self.predict(batch.padded_shape, len(batch.tiles))
        return seconds

    def work_with(self, padded_shape: PaddedShape, count: int, priority: Priority) -> float:
        """`work_s` of a class if `count` tiles of a padded shape waited, whatever number does."""
        noted = self._bucket_work.get(padded_shape, NO_WORK)[priority]
        return self.work_s[priority] - noted + self.predict_all(padded_shape, count)

    def price(self, padded_shape: PaddedShape, interactive: int, total: int) -> None:
        """Take note of how many tiles of a padded shape wait."""
        old = self._bucket_work.pop(padded_shape, NO_WORK)
        if not total:
            self.work_s[0] -= old[0]
            self.work_s[1] -= old[1]
            if not self._bucket_work:  # no rounding errors pile up
                self.work_s = [0.0, 0.0]
            return
        both = self.predict_all(padded_shape, total)
        first = both if interactive == total else self.predict_all(padded_shape, interactive)
        self._bucket_work[padded_shape] = (first, both)
        self.work_s[0] += first - old[0]
        self.work_s[1] += both - old[1]

    def held_s(self, now: float) -> float:
        """For how long a run has been held for more tiles."""
        return 0.0 if self._holding_since is None else now - self._holding_since

    def paused(self, pause: Pause | None, now: float) -> None:
        """Take note of a pause, or of its end."""
        self.pause = pause
        self.poll_at = math.inf if pause is None else now + pause.seconds
        if pause is None:
            self._holding_since = None
        elif self._holding_since is None:
            self._holding_since = now

    def began(self, batch: Batch, now: float) -> None:
        if not self.running:
            self.run_began = now
        self.running += (batch,)

    def took(self, batch: Batch, seconds: float) -> None:
        """Learn how long a run took."""
        if any(tile.priority is Priority.INTERACTIVE for tile in batch.tiles):
            tile_s = seconds / len(batch.tiles)
            self.tile_s += (tile_s - self.tile_s) / RECENT_RUNS if self.tile_s else tile_s
        self.cost_model.observe(batch.padded_shape, len(batch.tiles), seconds)

    def ended(self, batch: Batch, now: float) -> None:
        self.running = tuple(other for other in self.running if other is not batch)
        self.run_began = now
