"""Mixed-size batches: which buckets share a run in one padded shape, and how much device time that saves."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import nlargest
from typing import NamedTuple

from server.scheduling.policy.device import Capacity
from server.scheduling.policy.padded_shapes import fits
from server.scheduling.queue.tile import PaddedShape, Priority
from server.scheduling.queue.tile_queue import BucketView

# A shared run must take less than this part of the time of separate runs: predictions are no more exact.
CHEAPER = 0.97
# Of more buckets, only those whose heads have waited longest are considered.
MOST_BUCKETS = 24


class Part(NamedTuple):
    """Images that join a shared run together or not at all, and the seconds of a run with nothing else in it."""

    padded_shape: PaddedShape
    images: int
    seconds: float


class SharedRun(NamedTuple):
    """One run of several parts, each padded to `padded_shape`; `apart_s` is the time of one run for each part."""

    padded_shape: PaddedShape
    parts: list[Part]
    images: int
    seconds: float
    apart_s: float

    @property
    def pays(self) -> bool:
        """Whether it has several parts and takes less time than runs of one part each."""
        return len(self.parts) > 1 and self.seconds < CHEAPER * self.apart_s


def share(
    own: Part,
    bucket: BucketView,
    buckets: Collection[BucketView],
    padded_shapes: Sequence[PaddedShape],
    device: Capacity,
    time_left_s: float = math.inf,
) -> SharedRun | None:
    """Fill up a run of `own`, the tiles of `bucket`, with tiles of other buckets; None if no shared run pays.

    A bucket joins as a whole or not at all, because what it saves is its run; batch tiles do not join an interactive
    run. Of the padded shapes the one is taken that does most work per second. The run takes at most `time_left_s`.
    """
    parts = list(_parts(bucket, buckets, device))
    # Until shapes have been chosen from the traffic, the sizes that wait stand in for them.
    chosen = [padded_shape for padded_shape in padded_shapes if padded_shape.model == own.padded_shape.model]
    shapes = chosen or [part.padded_shape for part in parts]
    best = None
    for padded_shape in dict.fromkeys((own.padded_shape, *shapes)):
        if not device.mixes_in(padded_shape) or not fits(own.padded_shape, padded_shape):
            continue
        room = device.room(padded_shape)
        while room > own.images and device.predict(padded_shape, room) > time_left_s:
            room -= 1
        joining, _ = _joining(parts, padded_shape, device)
        if not joining or room <= own.images:
            continue
        shared, _ = _fill([own, *joining], padded_shape, room, device)
        if shared.pays and (best is None or shared.apart_s * best.seconds > best.apart_s * shared.seconds):
            best = shared
    return best


def saved_s(
    waiting: Mapping[PaddedShape, int],
    padded_shapes: Iterable[PaddedShape],
    device: Capacity,
    longest_s: float = math.inf,
) -> float:
    """Estimate how many seconds shared runs save of `device.predict_all` for all waiting tiles (counts by shape).

    A dry run with the planner's own rules for what joins a run and when sharing pays. To be fast, it goes over the
    padded shapes once, from small to large, where the planner tries all of them for each run: every part runs in the
    first shape that it shares with another one, and runs with room left are parts again for larger shapes. Buckets
    whose run would take longer than `longest_s` are not shared.
    """
    parts = []
    for padded_shape, count in waiting.items():
        rest = count % device.room(padded_shape)
        if rest and (seconds := device.predict(padded_shape, rest)) <= longest_s:
            parts.append(Part(padded_shape, rest, seconds))
    saved = 0.0
    for padded_shape in padded_shapes:
        if len(parts) < 2:
            break
        if not device.mixes_in(padded_shape):
            continue
        room = device.room(padded_shape)
        joining, left = _joining(parts, padded_shape, device)
        while len(joining) > 1:
            shared, joining = _fill(joining, padded_shape, room, device)
            if not shared.pays:
                left += shared.parts
                continue
            saved += shared.apart_s - shared.seconds
            if shared.images < room:
                left.append(Part(padded_shape, shared.images, shared.seconds))
        parts = left + joining
    return saved


def _parts(bucket: BucketView, buckets: Collection[BucketView], device: Capacity) -> Iterable[Part]:
    """Yield what may join a run that begins with `bucket`: buckets that do not fill a run of their own."""
    interactive, model = bucket.priority is Priority.INTERACTIVE, bucket.padded_shape.model
    buckets = [other for other in buckets if other.padded_shape.model == model]
    if len(buckets) > MOST_BUCKETS:
        buckets = nlargest(MOST_BUCKETS, buckets, key=lambda other: -other.enqueued_at)
    for other in buckets:
        count = other.interactive if interactive else other.tiles
        if other is not bucket and 0 < count < device.room(other.padded_shape):
            seconds = device.predict(other.padded_shape, count)
            if seconds > 0:
                yield Part(other.padded_shape, count, seconds)


def _joining(parts: Iterable[Part], padded_shape: PaddedShape, device: Capacity) -> tuple[list[Part], list[Part]]:
    """Split parts into those that are cheaper padded to `padded_shape` than in their own runs, and the others.

    Those that save most time per image come first. A part that would fill the run alone shares nothing.
    """
    room = device.room(padded_shape)
    an_image_s = device.predict(padded_shape, 2) - device.predict(padded_shape, 1)
    joining: list[Part] = []
    left: list[Part] = []
    for part in parts:
        shape, images, seconds = part
        if fits(shape, padded_shape) and images < room and seconds > an_image_s * images:
            joining.append(part)
        else:
            left.append(part)
    joining.sort(key=_seconds_an_image, reverse=True)
    return joining, left


def _fill(
    parts: Iterable[Part], padded_shape: PaddedShape, room: int, device: Capacity
) -> tuple[SharedRun, list[Part]]:
    """Put parts into one run, in their order, as long as they fit; returns the run and the parts that did not fit."""
    run: list[Part] = []
    later: list[Part] = []
    images, apart_s = 0, 0.0
    for part in parts:
        if images + part.images <= room:
            run.append(part)
            images += part.images
            apart_s += part.seconds
        else:
            later.append(part)
    return SharedRun(padded_shape, run, images, device.predict(padded_shape, images), apart_s), later


def _seconds_an_image(part: Part) -> float:
    return part.seconds / part.images
