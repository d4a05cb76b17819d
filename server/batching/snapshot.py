"""The Snapshot: what waits, what runs and what runs cost, at one moment."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from server.batching.canvases import Canvases, fits
from server.batching.device import Device
from server.batching.job import Canvas
from server.batching.lane import Lane

# The costs of so many canvases, the last seen first: enough for a look, small enough for an answer.
MOST_COSTS = 32


@dataclass(frozen=True, slots=True)
class LaneState:
    """The jobs of one canvas that wait."""

    height: int
    width: int
    jobs: int
    pixels: int
    oldest_wait_ms: float
    interactive: int
    batch: int
    """Jobs of each priority; together they are `jobs`."""


@dataclass(frozen=True, slots=True)
class FittedCost:
    """Milliseconds of a run of n images of one canvas: `fixed_ms + n * per_image_ms`, fitted to `runs` runs."""

    height: int
    width: int
    fixed_ms: float
    per_image_ms: float
    runs: int


@dataclass(frozen=True, slots=True)
class DeviceState:
    """One device that takes work; `running` has the (height, width, count) of its runs, the present one first."""

    name: str
    max_batch: int
    max_run_pixels: int
    running: tuple[tuple[int, int, int], ...]
    remaining_ms: float
    """Predicted, of what runs."""
    cost_error: float
    """Mean of |predicted - measured| / measured over the last runs."""
    costs: tuple[FittedCost, ...]


@dataclass(frozen=True, slots=True)
class CanvasState:
    """One size that runs of several sizes may have, and the jobs that wait whose smallest one it is."""

    height: int
    width: int
    chosen_by: Literal["setting", "traffic"]
    jobs: int
    padding: float
    """Part of its pixels that such a job leaves over, on average; 0 where none waits."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Predicted milliseconds until all that was admitted is done, their bound, the lanes, canvases and devices."""

    backlog_ms: float
    max_backlog_ms: float
    lanes: tuple[LaneState, ...]
    canvases: tuple[CanvasState, ...]
    """From small to large; none where no device shares runs, or none were chosen yet."""
    devices: tuple[DeviceState, ...]


def lane_state(lane: Lane, now: float) -> LaneState:
    """Describe a lane that has jobs."""
    interactive, batch = lane.classes
    return LaneState(
        height=lane.canvas.height,
        width=lane.canvas.width,
        jobs=len(lane),
        pixels=len(lane) * lane.canvas.pixels,
        oldest_wait_ms=(now - min(job.enqueued_at for job in lane)) * 1e3,
        interactive=len(interactive),
        batch=len(batch),
    )


def canvas_states(canvases: Canvases, lanes: Collection[Lane]) -> tuple[CanvasState, ...]:
    """Describe the canvases, from small to large, beside the lanes that have jobs."""
    jobs, pixels = Counter[Canvas](), Counter[Canvas]()
    for lane in lanes:
        canvas = next((canvas for canvas in canvases.chosen if fits(lane.canvas, canvas)), None)
        if canvas is not None:
            jobs[canvas] += len(lane)
            pixels[canvas] += len(lane) * lane.canvas.pixels
    return tuple(
        CanvasState(
            height=canvas.height,
            width=canvas.width,
            chosen_by="setting" if canvases.given else "traffic",
            jobs=jobs[canvas],
            padding=1 - pixels[canvas] / (jobs[canvas] * canvas.pixels) if jobs[canvas] else 0.0,
        )
        for canvas in canvases.chosen
    )


def device_state(device: Device, now: float) -> DeviceState:
    """Describe a device that takes work."""
    return DeviceState(
        name=device.name,
        max_batch=device.max_batch,
        max_run_pixels=device.max_run_pixels,
        running=tuple((*batch.canvas, len(batch.jobs)) for batch in device.running),
        remaining_ms=device.remaining_s(now) * 1e3,
        cost_error=device.cost_model.relative_error,
        costs=tuple(
            FittedCost(*canvas, line.fixed * 1e3, line.slope * 1e3, runs)
            for canvas, line, runs in device.cost_model.fits()[:MOST_COSTS]
        ),
    )
