"""The Snapshot: what waits, what runs and what runs cost, for `GET /v1/scheduler`."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from server.scheduling.policy.device import Device, LoadedModel
from server.scheduling.policy.mixed_sizes import PaddedShapes, fits
from server.scheduling.queue.tile import PaddedShape
from server.scheduling.queue.tile_queue import ShapeBucket

# The most padded shapes whose costs are shown, the last seen first.
MOST_COSTS = 32


@dataclass(frozen=True, slots=True)
class BucketState:
    """The waiting tiles of one model and padded shape."""

    model: str
    height: int
    width: int
    tiles: int
    pixels: int
    oldest_wait_ms: float
    interactive: int
    batch: int
    """Tiles of each priority; together they are `tiles`."""


@dataclass(frozen=True, slots=True)
class FittedCost:
    """The milliseconds of a run of n images of a shape: `fixed_ms + n * per_image_ms`, fitted to `runs` runs."""

    height: int
    width: int
    fixed_ms: float
    per_image_ms: float
    runs: int


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model on a device: what it takes in a run, and what its runs cost."""

    name: str
    max_batch: int
    max_run_pixels: int
    cost_error: float
    """Mean of |predicted - measured| / measured over the last runs."""
    costs: tuple[FittedCost, ...]


@dataclass(frozen=True, slots=True)
class RunState:
    """A run on a device: `count` images of a padded shape."""

    model: str
    height: int
    width: int
    count: int


@dataclass(frozen=True, slots=True)
class DeviceState:
    """One device that takes work; `running` lists its runs, the current one first."""

    name: str
    running: tuple[RunState, ...]
    remaining_ms: float
    """Predicted time until its runs are done."""
    models: tuple[ModelState, ...]


@dataclass(frozen=True, slots=True)
class PaddedShapeState:
    """One size that mixed-size batches may have, and the waiting tiles for which it is the smallest one."""

    model: str
    height: int
    width: int
    chosen_by: Literal["setting", "traffic"]
    tiles: int
    padding: float
    """Part of its pixels that is padding for such a tile, on average; 0 if none waits."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The backlog in predicted milliseconds, its bound, and the buckets, padded shapes and devices."""

    backlog_ms: float
    max_backlog_ms: float
    buckets: tuple[BucketState, ...]
    padded_shapes: tuple[PaddedShapeState, ...]
    """From small to large; empty if no device mixes sizes, or before any were chosen."""
    devices: tuple[DeviceState, ...]


def snapshot_of(
    buckets: Collection[ShapeBucket],
    devices: Collection[Device],
    padded_shapes: PaddedShapes,
    now: float,
    backlog_s: float,
    bound_s: float,
) -> Snapshot:
    """Describe the queue and the devices at the moment `now`, under the queue's lock."""
    return Snapshot(
        backlog_s * 1e3,
        bound_s * 1e3,
        tuple(bucket_state(bucket, now) for bucket in buckets),
        padded_shape_states(padded_shapes, buckets, devices),
        tuple(device_state(device, now) for device in devices),
    )


def bucket_state(bucket: ShapeBucket, now: float) -> BucketState:
    """Describe a bucket that has tiles."""
    interactive, batch = bucket.classes
    return BucketState(
        model=bucket.padded_shape.model,
        height=bucket.padded_shape.height,
        width=bucket.padded_shape.width,
        tiles=len(bucket),
        pixels=len(bucket) * bucket.padded_shape.pixels,
        oldest_wait_ms=(now - min(tile.enqueued_at for tile in bucket)) * 1e3,
        interactive=len(interactive),
        batch=len(batch),
    )


def padded_shape_states(
    padded_shapes: PaddedShapes, buckets: Collection[ShapeBucket], devices: Collection[Device]
) -> tuple[PaddedShapeState, ...]:
    """Describe the padded shapes of models that mix sizes, from small to large, with the tiles that wait for them."""
    tiles, pixels = Counter[PaddedShape](), Counter[PaddedShape]()
    for bucket in buckets:
        padded_shape = next(
            (padded_shape for padded_shape in padded_shapes.chosen if fits(bucket.padded_shape, padded_shape)), None
        )
        if padded_shape is not None:
            tiles[padded_shape] += len(bucket)
            pixels[padded_shape] += len(bucket) * bucket.padded_shape.pixels
    return tuple(
        PaddedShapeState(
            model=padded_shape.model,
            height=padded_shape.height,
            width=padded_shape.width,
            chosen_by="setting" if padded_shapes.given else "traffic",
            tiles=tiles[padded_shape],
            padding=1 - pixels[padded_shape] / (tiles[padded_shape] * padded_shape.pixels)
            if tiles[padded_shape]
            else 0.0,
        )
        for padded_shape in padded_shapes.chosen
        if any(device.mixes_sizes(padded_shape) for device in devices)
    )


def device_state(device: Device, now: float) -> DeviceState:
    """Describe a device that takes work."""
    return DeviceState(
        name=device.name,
        running=tuple(
            RunState(batch.model, batch.padded_shape.height, batch.padded_shape.width, len(batch.tiles))
            for batch in device.running
        ),
        remaining_ms=device.remaining_s(now) * 1e3,
        models=tuple(model_state(name, model) for name, model in device.models.items()),
    )


def model_state(name: str, model: LoadedModel) -> ModelState:
    """Describe a model on a device."""
    return ModelState(
        name=name,
        max_batch=model.max_batch,
        max_run_pixels=model.max_run_pixels,
        cost_error=model.cost_model.relative_error,
        costs=tuple(
            FittedCost(padded_shape.height, padded_shape.width, line.fixed * 1e3, line.slope * 1e3, runs)
            for padded_shape, line, runs in model.cost_model.fits()[:MOST_COSTS]
        ),
    )
