"""The sharing: which waiting sizes run together in one padded shape, where that takes a device less time than apart."""

import math
from collections.abc import Collection, Iterable
from dataclasses import replace
from heapq import nlargest

from server.scheduling.policy.choice import Choice
from server.scheduling.policy.device import Device
from server.scheduling.policy.padded_shapes import fits
from server.scheduling.queue.bucket import ShapeBucket
from server.scheduling.queue.tile import PaddedShape, Priority

# Sharing must take that much less time than the runs apart: the predictions are not better than that.
CHEAPER = 0.97
# Of more buckets only those that wait longest are looked at.
MOST_LANES = 24


def shared(
    run: Choice, buckets: Collection[ShapeBucket], padded_shapes: Collection[PaddedShape], device: Device, start: float
) -> Choice:
    """`run`, or a run in one padded shape with the tiles of other buckets as well, if it is worth more.

    A bucket joins as a whole, because what it saves is its run: if what its padding costs is less than that. Of the
    padded_shapes the one is taken in which a second of the device does the most that would be done apart. A deadline
    that `run` keeps is kept, by a run of as many images as it allows.
    """
    own = run.bucket.padded_shape
    if run.count >= device.room(own) or run.count < len(run.bucket) or run.batch_first or len(buckets) < 2:
        return run
    priority = run.bucket.head.priority
    joining = [_Part(bucket, priority, device) for bucket in _oldest(buckets) if bucket is not run.bucket]
    joining = [part for part in joining if part.count and part.saves > 0]
    deadline = run.bucket.head.deadline
    until = math.inf if deadline is None or start + run.seconds > deadline else deadline - start
    best, most = run, 1 / CHEAPER
    # Until some were chosen from the traffic, the sizes that wait stand in.
    for padded_shape in {
        own,
        *(
            padded_shape
            for padded_shape in padded_shapes or [part.padded_shape for part in joining]
            if fits(own, padded_shape)
        ),
    }:
        found = None if padded_shape in device.untaken else _filled(run, padded_shape, joining, device, until)
        if found is None:
            continue
        choice, apart = found
        if apart > most * choice.seconds:
            best, most = choice, apart / choice.seconds
    return best


class _Part:
    """What of a bucket could join, and the seconds that its own run would take."""

    __slots__ = ("bucket", "count", "padded_shape", "saves")

    def __init__(self, bucket: ShapeBucket, priority: Priority, device: Device) -> None:
        self.bucket = bucket
        self.padded_shape = bucket.padded_shape
        self.count = len(bucket.classes[0]) if priority is Priority.INTERACTIVE else len(bucket)
        if self.count >= device.room(self.padded_shape):  # it makes a full run of its own
            self.count = 0
        self.saves = device.predict(self.padded_shape, self.count) if self.count else 0.0


def _filled(
    run: Choice, padded_shape: PaddedShape, joining: Iterable[_Part], device: Device, longest_s: float
) -> tuple[Choice, float] | None:
    """The run in `padded_shape` with what is worth its padding, and the seconds that its tiles would take apart."""
    alone = device.predict(padded_shape, 1)
    each = device.predict(padded_shape, 2) - alone
    room = device.room(padded_shape)
    while room > run.count and alone + (room - 1) * each > longest_s:
        room -= 1
    room -= run.count
    if room <= 0:
        return None
    worth = [(part.saves - each * part.count, part) for part in joining if fits(part.padded_shape, padded_shape)]
    joins: list[tuple[ShapeBucket, int]] = []
    apart = run.seconds
    for gain, part in sorted(worth, key=lambda entry: entry[0] / entry[1].count, reverse=True):
        if gain <= 0:
            break
        if part.count <= room:
            room -= part.count
            joins.append((part.bucket, part.count))
            apart += part.saves
    if not joins:
        return None
    count = run.count + sum(count for _, count in joins)
    return replace(
        run, padded_shape=padded_shape, joins=tuple(joins), seconds=device.predict(padded_shape, count)
    ), apart


def _oldest(buckets: Collection[ShapeBucket]) -> Iterable[ShapeBucket]:
    if len(buckets) <= MOST_LANES:
        return buckets
    return nlargest(MOST_LANES, buckets, key=lambda bucket: -bucket.head.enqueued_at)
