"""Mixed-size batches: the shapes they are padded to, the buckets that share a run, and the device time that saves."""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import nlargest
from itertools import accumulate
from typing import NamedTuple

from server.scheduling.policy.device import Capacity
from server.scheduling.queue.tile import PaddedShape, Priority
from server.scheduling.queue.tile_queue import BucketView

# A shared run must take less than this part of the time of separate runs: predictions are no more exact.
CHEAPER = 0.97
# Of more buckets, only those whose heads have waited longest are considered.
MOST_BUCKETS = 24
# Padded shapes of a model, not counting turned ones. For each shape a device keeps some memory.
MOST_SHAPES = 6
# The last tiles decide; enough of them that a size with a hundredth of the traffic counts.
MEMORY = 512
# Tiles before the first choice, and between later ones.
FIRST_AFTER = 16
REFRESH_EVERY = 256
# More sizes than this are rounded up until they are fewer: the time for a choice grows with their square.
MOST_SIZES = 32
COARSER = 2

Size = tuple[int, int]


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


def fits(padded_shape: PaddedShape, other: PaddedShape) -> bool:
    """Tell whether an image of `padded_shape` fits in `other`, of the same model."""
    return padded_shape[0] <= other[0] and padded_shape[1] <= other[1] and padded_shape[2] == other[2]


class PaddedShapes:
    """Remembers the sizes of each model's tiles, and chooses padded shapes that hold them with little padding.

    Each shape comes with its turned form, for portraits and landscapes. Shapes that are `given` do not change with the
    traffic. To be used under the batcher's lock.
    """

    def __init__(self, given: Iterable[PaddedShape] = (), size_multiple: int = 8) -> None:
        self.chosen = _turned_too(given)
        """From small to large; empty until there was traffic, unless they were given."""
        self.given = bool(self.chosen)
        self._size_multiple = size_multiple
        self._seen: defaultdict[str, deque[Size]] = defaultdict(lambda: deque(maxlen=MEMORY))
        self._until_refresh: defaultdict[str, int] = defaultdict(lambda: FIRST_AFTER)

    def arrived(self, padded_shape: PaddedShape) -> None:
        """Note a tile."""
        if self.given:
            return
        height, width, model = padded_shape
        self._seen[model].append((min(height, width), max(height, width)))
        self._until_refresh[model] -= 1
        if self._until_refresh[model] <= 0:
            self._until_refresh[model] = min(REFRESH_EVERY, len(self._seen[model]))
            others = [chosen for chosen in self.chosen if chosen.model != model]
            self.chosen = _turned_too([*others, *self._choose(model)])

    def _choose(self, model: str) -> Iterable[PaddedShape]:
        sizes, step = Counter(self._seen[model]), self._size_multiple
        while len(sizes) > MOST_SIZES:
            step *= COARSER
            sizes = _rounded(sizes, step)
        return (PaddedShape(*size, model) for size in choose_padded_shapes(sizes, MOST_SHAPES))


def choose_padded_shapes(sizes: Counter[Size], most: int) -> list[Size]:
    """Choose at most `most` boxes, such that each of `sizes` fits in one, with the least padding.

    Sizes are (short, long) sides with their number of tiles. Ordered by their pixels, they are cut into groups, each
    with its bounding box. Dynamic programming over the cuts finds those with the least padding.
    """
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    counts = [0, *accumulate(sizes[size] for size in ordered)]
    boxes: list[list[Size]] = [[] for _ in ordered]  # by first and last of a group
    for first in range(len(ordered)):
        short = long = 0
        for size in ordered[first:]:
            short, long = max(short, size[0]), max(long, size[1])
            boxes[first].append((short, long))
    # The least pixels of all groups from `first` on, and the end of the first of them.
    best: list[tuple[int, int]] = [(0, 0)] * (len(ordered) + 1)
    cuts: list[list[tuple[int, int]]] = []
    for group in range(most):
        row = [(0, 0)] * (len(ordered) + 1)
        for first in range(len(ordered)):
            ends = range(first + 1, len(ordered) + 1) if group else (len(ordered),)
            row[first] = min(
                ((counts[end] - counts[first]) * _area(boxes[first][end - first - 1]) + best[end][0], end)
                for end in ends
            )
        best = row
        cuts.append(row)
    chosen, first = [], 0
    for row in reversed(cuts):
        if first == len(ordered):
            break
        end = row[first][1]
        chosen.append(boxes[first][end - first - 1])
        first = end
    return chosen


def _turned_too(padded_shapes: Iterable[PaddedShape]) -> tuple[PaddedShape, ...]:
    both = {
        turned
        for height, width, model in padded_shapes
        for turned in (PaddedShape(height, width, model), PaddedShape(width, height, model))
    }
    return tuple(sorted(both, key=lambda padded_shape: (padded_shape.pixels, padded_shape)))


def _area(size: Size) -> int:
    return size[0] * size[1]


def _rounded(sizes: Counter[Size], step: int) -> Counter[Size]:
    rounded: Counter[Size] = Counter()
    for (short, long), count in sizes.items():
        rounded[-(-short // step) * step, -(-long // step) * step] += count
    return rounded
