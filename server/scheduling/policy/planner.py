"""The planner: decides what a device runs next, as a pure function of what waits and of what the devices do."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from server.scheduling.policy.batch_delay import NOBODY, Forecast, batch_delay, may_pay
from server.scheduling.policy.device import NOTHING_TO_DO, Capacity, DeviceView, Wait
from server.scheduling.policy.mixed_sizes import Part, share
from server.scheduling.queue.tile import PaddedShape, Priority
from server.scheduling.queue.tile_queue import BucketView

# A head that has waited for this many of the longest runs weighs as much as a full run.
AGE_RUNS = 2.0
# One run in this many goes to batch tiles that are overdue, if there are any.
BATCH_SHARE_RUNS = 8
# Tiles that arrive during a run wait for its end. A longer run of batch tiles is therefore cut to the fewest images
# that keep this part of its images per second.
LONG_RUN_S = 0.05
NEARLY_AS_FAST = 0.95
# The same after a run of interactive tiles: more of them probably arrive meanwhile.
FAST_BESIDE_OTHERS = 0.8
# A device leaves work to another one that finishes within this part of its own time: predictions are no more exact.
EARLIER = 0.9
# A device that leaves its work to others looks again after this time at the earliest.
SHORTEST_WAIT_S = 0.001


class State(NamedTuple):
    """Everything that a decision depends on, at one moment. Times are seconds on the batcher's clock."""

    buckets: tuple[BucketView, ...]
    """The buckets with waiting tiles."""
    device: DeviceView
    """The device that asks for work."""
    now: float
    others: tuple[DeviceView, ...] = ()
    """All other devices."""
    padded_shapes: Sequence[PaddedShape] = ()
    """Shapes chosen for mixed-size batches, from small to large; empty until the traffic or a setting gave some."""
    forecast: Forecast = NOBODY
    """When further tiles are expected, if only one bucket has tiles, and too few for a full run."""
    runs_since_batch: int = 0
    """Runs since the last one that began with a batch tile."""
    only_full: bool = False
    """Whether the run is to begin behind a current one, which only a full run may."""
    full: tuple[BucketView, ...] = ()
    """With `only_full`: the buckets that fill a run of the device with tiles that still need an answer."""


class Run(NamedTuple):
    """The decision to run tiles now: `parts` says how many of which bucket, in a predicted time of `seconds`."""

    padded_shape: PaddedShape
    """The shape that all images of the run have, or are padded to."""
    parts: tuple[tuple[PaddedShape, int], ...]
    seconds: float
    pressing: bool = False
    """Chosen because of a deadline or of a wait that has reached its limit."""
    batch_first: bool = False
    """Whether the batch tiles of a bucket leave before its interactive ones."""


def plan(state: State) -> Run | Wait:
    """Decide what a device does next: which tiles it runs, or how long it waits before it asks again.

    1. Choose a bucket and the number of its tiles, for a start as soon as the device is free (`_choose`).
    2. Leave the bucket to other devices that finish all of it sooner, and choose among the remaining ones.
    3. If other devices are idle as well, take only a share, so that all end at the same time.
    4. Fill up the run with other sizes, padded to one shape, if that takes less time than separate runs.
    5. If only this bucket has tiles, wait for clients that are expected back at once, if that pays.
    """
    if state.only_full:
        return _plan_behind(state)
    device, left = state.device, list(state.buckets)
    start = state.now + device.remaining_s
    busy_s = {other.name: other.remaining_s for other in state.others} if state.others else {}
    while left:
        bucket, run = _choose(left, device, start, state.runs_since_batch)
        if not (busy_s and _finished_sooner(bucket, run, device, state.others, busy_s)):
            return _complete(bucket, run, left, state)
        left.remove(bucket)
    if not state.buckets:
        return NOTHING_TO_DO
    return Wait(max(SHORTEST_WAIT_S, min(other.remaining_s for other in state.others)))


def plan_lone(padded_shape: PaddedShape, device: Capacity) -> Run | None:
    """Plan the run of the only tile that waits, for the only device, as `plan` would; None if it may pay to wait."""
    if may_pay(padded_shape, device):
        return None
    return Run(padded_shape, ((padded_shape, 1),), device.predict(padded_shape, 1))


def _plan_behind(state: State) -> Run | Wait:
    """Plan a full run to begin behind the current one, unless other tiles must have the device at that moment.

    A long run of batch tiles does not begin early: tiles that arrive would have to wait for both runs.
    """
    device = state.device
    start = state.now + device.remaining_s
    if not state.full:
        return NOTHING_TO_DO
    bucket, run = _choose(state.buckets, device, start, state.runs_since_batch)
    if run.pressing or (bucket.priority is Priority.BATCH and run.seconds > LONG_RUN_S):
        return NOTHING_TO_DO
    bucket, run = _choose(state.full, device, state.now)
    return run if run.parts[0][1] >= device.room(bucket.padded_shape) else NOTHING_TO_DO


def _complete(bucket: BucketView, run: Run, buckets: Sequence[BucketView], state: State) -> Run | Wait:
    """Adapt the chosen run to idle devices, to other sizes, or to tiles that are about to arrive."""
    device, (own, count) = state.device, run.parts[0]
    if state.others and (idle := [other for other in state.others if not other.running]):
        count = _share_beside(idle, bucket, run, device)
        return run._replace(parts=((own, count),), seconds=device.predict(own, count))
    if len(state.buckets) == 1:
        return batch_delay(bucket, count, run.seconds, device, state.forecast, state.now) or run
    is_cut = count < bucket.tiles
    if is_cut or run.batch_first or len(buckets) < 2 or count >= device.room(own) or not device.mixes_sizes(own):
        return run
    start, deadline = state.now + device.remaining_s, bucket.deadline
    time_left = math.inf if deadline is None or start + run.seconds > deadline else deadline - start
    shared = share(Part(own, count, run.seconds), bucket, buckets, state.padded_shapes, device, time_left)
    if shared is None:
        return run
    parts = tuple((part.padded_shape, part.images) for part in shared.parts)
    return run._replace(padded_shape=shared.padded_shape, parts=parts, seconds=shared.seconds)


def _choose(
    buckets: Sequence[BucketView], device: DeviceView, start: float, runs_since_batch: int = 0
) -> tuple[BucketView, Run]:
    """Choose a bucket, of at least one, and the number of its tiles, for a run that begins at `start`.

    Interactive tiles go before batch tiles, except that overdue batch tiles get one run in `BATCH_SHARE_RUNS`. Among
    equals, heads that are overdue, or would miss their deadline behind the longest other run, go first, in the order
    of their due times. Otherwise the bucket wins that does most useful pixels per predicted second, relative to a full
    run of its shape, plus a bonus for the age of its head.
    """
    if runs_since_batch >= BATCH_SHARE_RUNS:
        overdue = [bucket for bucket in buckets if bucket.batch_due <= start]
        if overdue:
            first = min(overdue, key=lambda bucket: bucket.batch_due)
            count, seconds = _extent(first, device, start, batch_first=True)
            return first, Run(first.padded_shape, ((first.padded_shape, count),), seconds, True, True)
    candidates = [bucket for bucket in buckets if bucket.interactive] or buckets
    share = FAST_BESIDE_OTHERS if runs_since_batch else NEARLY_AS_FAST
    if len(candidates) == 1:
        bucket = candidates[0]
        count, seconds = _extent(bucket, device, start, share)
        return bucket, Run(bucket.padded_shape, ((bucket.padded_shape, count),), seconds)
    runs = [(bucket, *_extent(bucket, device, start, share)) for bucket in candidates]
    longest = max(seconds for _, _, seconds in runs)
    pressing = [run for run in runs if _presses(run[0], run[2], longest, start)]
    if pressing:
        bucket, count, seconds = min(pressing, key=lambda run: run[0].due)
    else:
        bucket, count, seconds = max(runs, key=lambda run: _worth(run[0], run[1], run[2], device, longest, start))
    return bucket, Run(bucket.padded_shape, ((bucket.padded_shape, count),), seconds, bool(pressing))


def _extent(
    bucket: BucketView, device: DeviceView, start: float, share: float = NEARLY_AS_FAST, *, batch_first: bool = False
) -> tuple[int, float]:
    """Return how many tiles of a bucket would run at `start`, and the predicted seconds of that run.

    A long run of batch tiles keeps `share` of its images per second.
    """
    padded_shape, deadline = bucket.padded_shape, bucket.deadline
    count = min(bucket.tiles, device.room(padded_shape))
    seconds = device.predict(padded_shape, count)
    interactive = 0 if batch_first else bucket.interactive
    if seconds > LONG_RUN_S and interactive < count:
        count = max(interactive, _fewest_nearly_as_fast(padded_shape, count, seconds, device, share))
        seconds = device.predict(padded_shape, count)
    if deadline is not None and start + seconds > deadline:
        # Run fewer if that keeps the head's deadline. If nothing does, the prediction may still be wrong.
        fitting = count
        while fitting > 1 and start + device.predict(padded_shape, fitting) > deadline:
            fitting -= 1
        if start + (sooner := device.predict(padded_shape, fitting)) <= deadline:
            return fitting, sooner
    return count, seconds


def _fewest_nearly_as_fast(
    padded_shape: PaddedShape, count: int, seconds: float, device: DeviceView, share: float
) -> int:
    """Return the fewest images whose run does `share` as many per second as a run of `count`, in `seconds`."""
    enough = share * count / seconds
    return next(fewer for fewer in range(1, count + 1) if fewer >= enough * device.predict(padded_shape, fewer))


def _presses(bucket: BucketView, seconds: float, longest: float, start: float) -> bool:
    """Tell whether a bucket's head is overdue, or would miss its deadline behind the longest other run."""
    if bucket.deadline is None:
        return bucket.due <= start
    # A head that is late in any case gains nothing by going first.
    return start + seconds <= bucket.deadline < start + longest + seconds


def _worth(bucket: BucketView, count: int, seconds: float, device: DeviceView, longest: float, start: float) -> float:
    """Rate a run: its images per second relative to those of a full run, plus a bonus for the age of its head."""
    age = start - bucket.enqueued_at
    if seconds <= 0:  # nothing was measured yet
        return age
    padded_shape = bucket.padded_shape
    room = device.room(padded_shape)
    rate = count * device.predict(padded_shape, room) / (room * seconds)
    return rate + age / (AGE_RUNS * longest)


def _finished_sooner(
    bucket: BucketView, run: Run, device: DeviceView, others: Sequence[DeviceView], busy_s: dict[str, float]
) -> bool:
    """Tell whether other devices finish a whole bucket sooner than `device` finishes one run of it.

    If so, `busy_s` (seconds until each other device is free) then includes that work.
    """
    (padded_shape, most), left = run.parts[0], bucket.tiles
    after = dict(busy_s)
    while left > 0:
        own = device.remaining_s + device.predict(padded_shape, min(left, most))
        end, name, room = min(_ends(padded_shape, left, others, after))
        if end >= EARLIER * own:
            return False
        after[name] = end
        left -= room
    busy_s.update(after)
    return True


def _ends(
    padded_shape: PaddedShape, count: int, devices: Iterable[DeviceView], busy_s: dict[str, float]
) -> Iterable[tuple[float, str, int]]:
    """Yield when each device would end a run of up to `count` images, its name, and how many images it can take."""
    for device in devices:
        room = device.room(padded_shape)
        yield busy_s[device.name] + device.predict(padded_shape, min(count, room)), device.name, room


def _share_beside(idle: Sequence[DeviceView], bucket: BucketView, run: Run, device: DeviceView) -> int:
    """Return how many tiles of a run `device` takes beside idle devices: a share by speed, so that all end together."""
    padded_shape, count = run.parts[0]
    if not run.seconds:
        return count
    speed = 1 / run.seconds
    total = speed + sum(1 / max(other.predict(padded_shape, count), 1e-9) for other in idle)
    return min(count, math.ceil(bucket.tiles * speed / total))
