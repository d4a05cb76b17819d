"""The choice: which bucket a device runs next, with how many of its tiles."""

from collections.abc import Iterable
from dataclasses import dataclass

from server.scheduling.policy.device import Device
from server.scheduling.queue.bucket import ShapeBucket
from server.scheduling.queue.tile import PaddedShape, Tile

# A head that has waited through so many of the longest runs weighs as much as a full run.
AGE_RUNS = 2.0
# Of every so many runs one goes to batch tiles that waited out their patience, if there are any.
BATCH_SHARE_RUNS = 8
# Whoever comes next waits for the run that goes on. One of batch tiles that would take longer than this is cut to the
# fewest images that leave it nearly as many of them a second.
LONG_RUN_S = 0.05
NEARLY_AS_FAST = 0.95


@dataclass(frozen=True, slots=True)
class Choice:
    """The next run: `count` tiles of `bucket`, in predicted `seconds`."""

    bucket: ShapeBucket
    count: int
    seconds: float
    pressing: bool = False
    """Chosen for a deadline or for a wait at its bound, whatever it is worth."""
    batch_first: bool = False
    padded_shape: PaddedShape | None = None
    """That of a run of several sizes; None: of one size, that of the bucket."""
    joins: tuple[tuple[ShapeBucket, int], ...] = ()
    """Further buckets whose tiles run too, and how many of each."""

    @property
    def images(self) -> int:
        """All tiles of the run."""
        return self.count + sum(count for _, count in self.joins)


def choose(buckets: Iterable[ShapeBucket], device: Device, now: float, *, batch_share: bool = False) -> Choice | None:
    """Choose for a device that could start at `now`.

    Interactive before batch, except where `batch_share` gives this run to batch tiles that are overdue. In the class
    a tile overdue, or one that would miss its deadline behind the longest other run, goes first, the earliest due of
    them; else the bucket with the most useful pixels per predicted second, relative to a full run of its
    padded_shape, plus a bonus for the age of its head.
    """
    if batch_share:
        overdue = [bucket for bucket in buckets if bucket.classes[1] and bucket.classes[1][0].due <= now]
        if overdue:
            bucket = min(overdue, key=lambda bucket: bucket.classes[1][0].due)
            return Choice(bucket, *_extent(bucket, device, now, batch_first=True), pressing=True, batch_first=True)
    first = [bucket for bucket in buckets if bucket.classes[0]] or list(buckets)
    if len(first) < 2:
        return Choice(first[0], *_extent(first[0], device, now)) if first else None
    runs = [(bucket, *_extent(bucket, device, now)) for bucket in first]
    longest = max(seconds for _, _, seconds in runs)
    pressing = [run for run in runs if _presses(run[0].head, run[2], longest, now)]
    if pressing:
        return Choice(*min(pressing, key=lambda run: run[0].head.due), pressing=True)
    return Choice(*max(runs, key=lambda run: _worth(run[0], run[1], run[2], device, longest, now)))


def fullest(buckets: Iterable[ShapeBucket], device: Device, now: float) -> Choice | None:
    """Of the buckets that fill a run, the one that `choose` would take."""
    return choose([bucket for bucket in buckets if bucket.has(device.room(bucket.padded_shape), now)], device, now)


def _extent(bucket: ShapeBucket, device: Device, now: float, *, batch_first: bool = False) -> tuple[int, float]:
    """How many tiles of a bucket would run now, and for how many seconds."""
    padded_shape, count = bucket.padded_shape, len(bucket)
    count = min(count, device.room(padded_shape))
    seconds = device.predict(padded_shape, count)
    interactive = 0 if batch_first else len(bucket.classes[0])
    if seconds > LONG_RUN_S and interactive < count:
        count = max(interactive, _nearly_as_fast(padded_shape, count, seconds, device))
        seconds = device.predict(padded_shape, count)
    deadline = bucket.head.deadline
    if deadline is not None and now + seconds > deadline:
        # Fewer, where that keeps the head's deadline; where nothing does, the prediction may be wrong.
        fitting = count
        while fitting > 1 and now + device.predict(padded_shape, fitting) > deadline:
            fitting -= 1
        if now + (sooner := device.predict(padded_shape, fitting)) <= deadline:
            return fitting, sooner
    return count, seconds


def _nearly_as_fast(padded_shape: PaddedShape, count: int, seconds: float, device: Device) -> int:
    """The fewest images whose run has nearly as many a second as one of `count`, which takes `seconds`."""
    enough = NEARLY_AS_FAST * count / seconds
    return next(fewer for fewer in range(1, count + 1) if fewer >= enough * device.predict(padded_shape, fewer))


def _presses(head: Tile, seconds: float, longest: float, now: float) -> bool:
    if head.deadline is None:
        return head.due <= now
    # One that is late already gains nothing by going first.
    return now + seconds <= head.deadline < now + longest + seconds


def _worth(bucket: ShapeBucket, count: int, seconds: float, device: Device, longest: float, now: float) -> float:
    age = now - bucket.head.enqueued_at
    if seconds <= 0:  # nothing was measured yet
        return age
    room = device.room(bucket.padded_shape)
    rate = count * device.predict(bucket.padded_shape, room) / (room * seconds)
    return rate + age / (AGE_RUNS * longest)
