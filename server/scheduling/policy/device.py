"""The Device: one device as the batcher and the planner see it."""

import math
import threading
from collections.abc import Mapping
from typing import NamedTuple

from server.scheduling.policy.cost_model import CostModel, Costs
from server.scheduling.queue.tile import Batch, PaddedShape, Priority
from server.settings import MAX_RUN_PIXELS

NO_WORK = (0.0, 0.0)
NO_SHAPES: frozenset[PaddedShape] = frozenset()
# The time per tile is averaged over about this many runs.
RECENT_RUNS = 8


class Wait(NamedTuple):
    """The decision to run nothing for `seconds`, unless something changes.

    A wait for a fuller run names its `padded_shape`, and ends as soon as `tiles` of it wait.
    """

    seconds: float
    padded_shape: PaddedShape | None = None
    tiles: int = 0


NOTHING_TO_DO = Wait(math.inf)
"""The wait until a tile arrives or a run ends."""


class ModelView(NamedTuple):
    """What a device takes of one model in a run, and what its runs cost, at one moment."""

    max_batch: int
    max_run_pixels: int
    costs: Costs
    mixes_sizes: bool = False
    """Whether its runs may hold images of several sizes."""
    unsupported_shapes: frozenset[PaddedShape] = NO_SHAPES
    """Padded shapes in which it has refused such a run."""


class LoadedModel:
    """One model on one device: what it takes in a run, and what its runs cost. The worker owns the backend itself.

    The device's own thread may lower the limits at any time; all else belongs to the batcher and its lock.
    """

    def __init__(
        self, max_batch: int, max_run_pixels: int = MAX_RUN_PIXELS, cost_model: CostModel | None = None
    ) -> None:
        self.max_batch = max_batch
        self.max_run_pixels = max_run_pixels
        self.cost_model = cost_model or CostModel()
        self.mixes_sizes = False
        """Whether its runs may hold images of several sizes."""
        self.unsupported_shapes: set[PaddedShape] = set()
        """Padded shapes in which it has refused such a run."""

    @property
    def costs(self) -> Costs:
        """Run times predicted from the measurements so far; a new object after each fit."""
        return self.cost_model.costs

    def view(self) -> ModelView:
        """Describe the model at this moment, as data for the planner."""
        unsupported = frozenset(self.unsupported_shapes) if self.unsupported_shapes else NO_SHAPES
        return ModelView(self.max_batch, self.max_run_pixels, self.cost_model.costs, self.mixes_sizes, unsupported)


class Capacity:
    """What a device takes in one run of each of its models, and how long runs take on it."""

    __slots__ = ()

    models: Mapping[str, LoadedModel | ModelView]
    """By name."""

    def room(self, padded_shape: PaddedShape) -> int:
        """Return the most images of `padded_shape` in one run; at least one, whatever its size."""
        model = self.models[padded_shape[2]]
        most, fitting = model.max_batch, model.max_run_pixels // (padded_shape[0] * padded_shape[1])
        return fitting if 1 <= fitting <= most else 1 if fitting < 1 else most

    def mixes_sizes(self, padded_shape: PaddedShape) -> bool:
        """Tell whether runs of the model of a padded shape may hold images of several sizes."""
        return self.models[padded_shape[2]].mixes_sizes

    def mixes_in(self, padded_shape: PaddedShape) -> bool:
        """Tell whether a run may hold images of several sizes, padded to `padded_shape`."""
        model = self.models[padded_shape[2]]
        return model.mixes_sizes and padded_shape not in model.unsupported_shapes

    def predict(self, padded_shape: PaddedShape, count: int) -> float:
        """Predict the seconds of one run."""
        return self.models[padded_shape[2]].costs.predict(padded_shape, count)

    def predict_all(self, padded_shape: PaddedShape, count: int) -> float:
        """Predict the seconds of as many runs as `count` images need."""
        if count <= 1:
            return self.predict(padded_shape, count) if count else 0.0
        room = self.room(padded_shape)
        if count <= room:
            return self.predict(padded_shape, count)
        full, rest = divmod(count, room)
        seconds = full * self.predict(padded_shape, room)
        return seconds + self.predict(padded_shape, rest) if rest else seconds


class _DeviceFields(NamedTuple):
    name: str
    models: Mapping[str, ModelView]
    """The models that it has loaded, by name; one of them runs at a time."""
    running: tuple[tuple[PaddedShape, int], ...] = ()
    """Shape and images of the batches that it has and has not finished."""
    remaining_s: float = 0.0
    """Predicted seconds until it is free."""
    delayed_s: float = 0.0
    """Seconds for which it has already delayed the run that it could start now."""


class DeviceView(Capacity, _DeviceFields):  # type: ignore[misc]  # what may change in a Device may not here
    """A device at one moment, as plain data."""

    __slots__ = ()


class Device(Capacity):
    """One device, with its loaded models and current runs.

    One object for one life of a worker: a rebuilt worker has a new Device of the same name, with the old cost models.
    It belongs to the batcher and its lock.
    """

    __slots__ = (
        "_bucket_work", "_waiting_since", "models", "name", "poll_at", "run_began", "running", "tile_s", "wait", "wake",
        "work_s",
    )  # fmt: skip

    def __init__(self, name: str, models: Mapping[str, LoadedModel]) -> None:
        self.name = name
        self.models: Mapping[str, LoadedModel] = models
        """By name; one of them runs at a time."""
        self.running: tuple[Batch, ...] = ()
        """The batches that it took and has not finished, in the order of their runs."""
        self.run_began = 0.0
        """When the first of them could start, in seconds on the batcher's clock."""
        self.wait: Wait | None = None
        """Why it runs nothing although tiles wait."""
        self.poll_at = math.inf
        """When to poll again even if nothing changes: the end of the wait."""
        self.work_s = [0.0, 0.0]
        """Predicted seconds of all waiting tiles, if this device ran them alone: interactive ones, and all."""
        self.tile_s = 0.0
        """Mean seconds for an interactive tile, over the last runs: the time of its run by the tiles in it."""
        self.wake = threading.Condition()
        """What its thread waits on; it uses the batcher's lock from `join` on."""
        self._waiting_since: float | None = None
        self._bucket_work: dict[PaddedShape, tuple[float, float]] = {}

    def predict(self, padded_shape: PaddedShape, count: int) -> float:
        """Predict the seconds of one run."""
        return self.models[padded_shape[2]].cost_model.costs.predict(padded_shape, count)

    def full_run(self, padded_shape: PaddedShape) -> float:
        """Return the images of a full run; infinity for a model that takes one image in a batch."""
        return self.room(padded_shape) if self.models[padded_shape.model].max_batch > 1 else math.inf

    @property
    def runs_single_images(self) -> bool:
        """Whether no run of any model holds more than one image."""
        return all(model.max_batch == 1 for model in self.models.values())

    @property
    def mixes_any(self) -> bool:
        """Whether runs of some model may hold images of several sizes."""
        return any(model.mixes_sizes for model in self.models.values())

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs on it."""
        return not self.running

    def view(self, now: float) -> DeviceView:
        """Describe the device at this moment, as data for the planner."""
        running = tuple([(batch.padded_shape, len(batch.tiles)) for batch in self.running]) if self.running else ()
        return DeviceView(
            self.name,
            {name: model.view() for name, model in self.models.items()},
            running,
            self.remaining_s(now),
            0.0 if self._waiting_since is None else now - self._waiting_since,
        )

    def remaining_s(self, now: float) -> float:
        """Predict the seconds until it is free; a run that is late by t is expected to take t more."""
        if not self.running:
            return 0.0
        first, elapsed = self.running[0], now - self.run_began
        seconds = abs(self.predict(first.padded_shape, len(first.tiles)) - elapsed)
        for batch in self.running[1:]:
            seconds += self.predict(batch.padded_shape, len(batch.tiles))
        return seconds

    def work_with(self, padded_shape: PaddedShape, count: int, priority: Priority) -> float:
        """Return what `work_s` of a class would be if `count` tiles of a padded shape waited."""
        noted = self._bucket_work.get(padded_shape, NO_WORK)[priority]
        return self.work_s[priority] - noted + self.predict_all(padded_shape, count)

    def price(self, padded_shape: PaddedShape, interactive: int, total: int) -> None:
        """Update `work_s` for the number of waiting tiles of a padded shape."""
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

    def waits(self, wait: Wait | None, now: float) -> None:
        """Note that it waits although tiles wait, or (None) that it no longer does."""
        self.wait = wait
        self.poll_at = math.inf if wait is None else now + wait.seconds
        if wait is None:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now

    def began(self, batch: Batch, now: float) -> None:
        """Note that it took a batch."""
        if not self.running:
            self.run_began = now
        self.running += (batch,)

    def took(self, batch: Batch, seconds: float) -> None:
        """Learn how long a run took."""
        if any(tile.priority is Priority.INTERACTIVE for tile in batch.tiles):
            tile_s = seconds / len(batch.tiles)
            self.tile_s += (tile_s - self.tile_s) / RECENT_RUNS if self.tile_s else tile_s
        self.models[batch.model].cost_model.observe(batch.padded_shape, len(batch.tiles), seconds)

    def ended(self, batch: Batch, now: float) -> None:
        """Note that the run of a batch has ended."""
        self.running = tuple(other for other in self.running if other is not batch)
        self.run_began = now
