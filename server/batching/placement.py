"""The placement: what one of several devices does next, beside the others."""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from server.batching.choice import LONG_RUN_S, Choice, choose, fullest
from server.batching.device import Device, Pause
from server.batching.hold import hold
from server.batching.job import Canvas, Priority
from server.batching.lane import Lane
from server.batching.returns import Returns
from server.batching.sharing import shared

# A device leaves work to one that would be done that much earlier; less is within the error of the predictions.
EARLIER = 0.9
# A device that leaves work to another looks again after this at the earliest.
LEAST_PAUSE_S = 0.001


def next_run(
    lanes: Collection[Lane],
    device: Device,
    others: Sequence[Device],
    returns: Returns,
    now: float,
    *,
    batch_share: bool = False,
    canvases: Sequence[Canvas] = (),
) -> Choice | Pause | None:
    """The run that `device` starts as soon as it can, a pause where that is better, None where nothing waits.

    Lanes that the others would be done with sooner are left to them. Where others are idle too, it takes its share.
    """
    left, start_s = list(lanes), device.remaining_s(now)
    free_s = {other.name: other.remaining_s(now) for other in others}
    soonest = min(free_s.values(), default=0.0)
    while left and (run := choose(left, device, now + start_s, batch_share=batch_share)) is not None:
        if not _done_sooner(run, device, start_s, others, free_s):
            idle = [other for other in others if other.is_idle]
            if idle:
                return replace(run, count=_share(run, device, idle))
            if device.masks:
                run = shared(run, left, canvases, device, now + start_s)
            wait = hold(run, device, returns, now) if len(lanes) == 1 else None
            return run if wait is None else Pause(wait[0], run.lane.canvas, wait[1])
        left.remove(run.lane)
    return Pause(max(LEAST_PAUSE_S, soonest)) if lanes else None


def next_full_run(lanes: Collection[Lane], device: Device, now: float, *, batch_share: bool = False) -> Choice | None:
    """A full run to begin behind the one that goes on, unless something else must have the device then.

    No long one of batch jobs: whoever comes while both are on the device would wait for both.
    """
    run = choose(lanes, device, now + device.remaining_s(now), batch_share=batch_share)
    if run is None or run.pressing:
        return None
    if run.lane.head.priority is Priority.BATCH and run.seconds > LONG_RUN_S:
        return None
    run = fullest(lanes, device, now)
    return None if run is None or run.count < device.room(run.lane.canvas) else run


def _done_sooner(
    run: Choice, device: Device, start_s: float, others: Sequence[Device], free_s: dict[str, float]
) -> bool:
    """Whether others are done with all of the lane sooner than `device` with one run; `free_s` then has that in."""
    left, canvas = len(run.lane), run.lane.canvas
    after = dict(free_s)
    while left > 0 and others:
        own = start_s + device.predict(canvas, min(left, run.count))
        end, name, room = min(
            (after[other.name] + other.predict(canvas, min(left, other.room(canvas))), other.name, other.room(canvas))
            for other in others
        )
        if end >= EARLIER * own:
            return False
        after[name] = end
        left -= room
    free_s.update(after)
    return bool(others)


def _share(run: Choice, device: Device, idle: Sequence[Device]) -> int:
    """How many of the run's jobs `device` takes beside idle devices: its part by speed, so that all end at once."""
    if not run.seconds:
        return run.count
    canvas, speed = run.lane.canvas, 1 / run.seconds
    total = speed + sum(1 / max(other.predict(canvas, run.count), 1e-9) for other in idle)
    return min(run.count, math.ceil(len(run.lane) * speed / total))
