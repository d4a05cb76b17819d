"""States for tests of the planner: devices, waiting buckets, and what is asked of it."""

from devices import a_device_view

from server.scheduling.policy.cost_model import Costs, Line
from server.scheduling.policy.device import DeviceView
from server.scheduling.policy.planner import State
from server.scheduling.queue.tile import BATCH_PATIENCE_S, STARVATION_S, PaddedShape
from server.scheduling.queue.tile_queue import BucketView

NOW = 100.0
SMALL, OTHER, LARGE = PaddedShape(64, 64), PaddedShape(72, 64), PaddedShape(512, 512)
MAX_BATCH = 8


def device(
    name: str = "a", fixed_ms: float = 6.0, image_ms: float = 2.0, max_run_pixels: int = 10**9, **more: object
) -> DeviceView:
    """A device that takes 6 ms for a run and 2 ms for each image of 64x64, larger ones by their pixels."""
    costs = Costs({}, Line(fixed_ms / 1e3, image_ms / 1e3 / SMALL.pixels))
    return a_device_view(name, MAX_BATCH, max_run_pixels, costs, **more)


def wait_for(
    padded_shape: PaddedShape, interactive: int, *, age: float = 0.01, time_left: float | None = None, batch: int = 0
) -> BucketView:
    """A bucket whose head came `age` seconds ago, perhaps with seconds left until its deadline."""
    came = NOW - age
    patience = STARVATION_S if interactive else BATCH_PATIENCE_S
    deadline = None if time_left is None else NOW + time_left
    due = came + patience if deadline is None else deadline
    batch_due = came + BATCH_PATIENCE_S if batch else float("inf")
    return BucketView(padded_shape, interactive + batch, interactive, came, due, deadline, batch_due)


def state(*buckets: BucketView, on: DeviceView | None = None, **more: object) -> State:
    return State(buckets, on or device(), NOW)._replace(**more)  # type: ignore[arg-type]


def full(*buckets: BucketView, **more: object) -> State:
    """A state that asks for a full run behind the current one, where every bucket with enough tiles fills a run."""
    enough = tuple(bucket for bucket in buckets if bucket.tiles >= MAX_BATCH)
    return state(*buckets, only_full=True, full=enough, **more)  # type: ignore[arg-type]
