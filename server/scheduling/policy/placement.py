"""The placement: what one of several devices does next, beside the others."""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from server.scheduling.policy.arrival_forecast import ArrivalForecast
from server.scheduling.policy.batch_delay import batch_delay
from server.scheduling.policy.choice import LONG_RUN_S, Choice, choose, fullest
from server.scheduling.policy.device import Device, Pause
from server.scheduling.policy.mixed_sizes import shared
from server.scheduling.queue.bucket import ShapeBucket
from server.scheduling.queue.tile import PaddedShape, Priority

# A device leaves work to one that would be done that much earlier; less is within the error of the predictions.
EARLIER = 0.9
# A device that leaves work to another looks again after this at the earliest.
LEAST_PAUSE_S = 0.001


def next_run(
    buckets: Collection[ShapeBucket],
    device: Device,
    others: Sequence[Device],
    returns: ArrivalForecast,
    now: float,
    *,
    batch_share: bool = False,
    padded_shapes: Sequence[PaddedShape] = (),
) -> Choice | Pause | None:
    """The run that `device` starts as soon as it can, a pause where that is better, None where nothing waits.

    Lanes that the others would be done with sooner are left to them. Where others are idle too, it takes its share.
    """
    left, start_s = list(buckets), device.remaining_s(now)
    free_s = {other.name: other.remaining_s(now) for other in others}
    soonest = min(free_s.values(), default=0.0)
    while left and (run := choose(left, device, now + start_s, batch_share=batch_share)) is not None:
        if not _done_sooner(run, device, start_s, others, free_s):
            idle = [other for other in others if other.is_idle]
            if idle:
                return replace(run, count=_share(run, device, idle))
            if device.masks:
                run = shared(run, left, padded_shapes, device, now + start_s)
            wait = batch_delay(run, device, returns, now) if len(buckets) == 1 else None
            return run if wait is None else Pause(wait[0], run.bucket.padded_shape, wait[1])
        left.remove(run.bucket)
    return Pause(max(LEAST_PAUSE_S, soonest)) if buckets else None


def next_full_run(
    buckets: Collection[ShapeBucket], device: Device, now: float, *, batch_share: bool = False
) -> Choice | None:
    """A full run to begin behind the one that goes on, unless something else must have the device then.

    No long one of batch tiles: whoever comes while both are on the device would wait for both.
    """
    run = choose(buckets, device, now + device.remaining_s(now), batch_share=batch_share)
    if run is None or run.pressing:
        return None
    if run.bucket.head.priority is Priority.BATCH and run.seconds > LONG_RUN_S:
        return None
    run = fullest(buckets, device, now)
    return None if run is None or run.count < device.room(run.bucket.padded_shape) else run


def _done_sooner(
    run: Choice, device: Device, start_s: float, others: Sequence[Device], free_s: dict[str, float]
) -> bool:
    """Whether others are done with all of the bucket sooner than `device` with one run; `free_s` then has that in."""
    left, padded_shape = len(run.bucket), run.bucket.padded_shape
    after = dict(free_s)
    while left > 0 and others:
        own = start_s + device.predict(padded_shape, min(left, run.count))
        end, name, room = min(
            (
                after[other.name] + other.predict(padded_shape, min(left, other.room(padded_shape))),
                other.name,
                other.room(padded_shape),
            )
            for other in others
        )
        if end >= EARLIER * own:
            return False
        after[name] = end
        left -= room
    free_s.update(after)
    return bool(others)


def _share(run: Choice, device: Device, idle: Sequence[Device]) -> int:
    """How many of the run's tiles `device` takes beside idle devices: its part by speed, so that all end at once."""
    if not run.seconds:
        return run.count
    padded_shape, speed = run.bucket.padded_shape, 1 / run.seconds
    total = speed + sum(1 / max(other.predict(padded_shape, run.count), 1e-9) for other in idle)
    return min(run.count, math.ceil(len(run.bucket) * speed / total))
