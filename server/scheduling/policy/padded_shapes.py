"""The PaddedShapes: the few sizes that runs of several sizes may have, chosen from the traffic."""

from collections import Counter, deque
from collections.abc import Iterable
from itertools import accumulate

from server.scheduling.queue.tile import PaddedShape

# Each costs a device memory for what it keeps of a shape; half of them are the other half turned.
MOST_SHAPES = 6
# What came last decides; enough that a size with a hundredth of the traffic counts.
MEMORY = 512
# Chosen anew so often: first as soon as there is something to choose from, then as the traffic drifts.
FIRST_AFTER = 16
REFRESH_EVERY = 256
# More sizes than that are rounded up until they are fewer: the choice takes time by their square.
MOST_SIZES = 32
COARSER = 2

Size = tuple[int, int]


class PaddedShapes:
    """Remembers the sizes of tiles, and keeps a set of padded shapes that holds each of them with little left over.

    The set is closed under turning: a landscape fits where a portrait does. Where it is `given`, traffic changes
    nothing. To be used under the batcher's lock.
    """

    def __init__(self, given: Iterable[PaddedShape] = (), size_multiple: int = 8) -> None:
        self.chosen = _turned_too(given)
        """From small to large; none until there was traffic, unless they were given."""
        self.given = bool(self.chosen)
        self._size_multiple = size_multiple
        self._seen: deque[Size] = deque(maxlen=MEMORY)
        self._until_refresh = FIRST_AFTER

    def arrived(self, padded_shape: PaddedShape) -> None:
        """Take note of a tile."""
        if self.given:
            return
        self._seen.append((min(padded_shape), max(padded_shape)))
        self._until_refresh -= 1
        if self._until_refresh <= 0:
            self._until_refresh = min(REFRESH_EVERY, len(self._seen))
            self.chosen = self._chosen()

    def _chosen(self) -> tuple[PaddedShape, ...]:
        sizes, step = Counter(self._seen), self._size_multiple
        while len(sizes) > MOST_SIZES:
            step *= COARSER
            sizes = _rounded(sizes, step)
        return _turned_too(PaddedShape(*size) for size in choose_padded_shapes(sizes, MOST_SHAPES))


def choose_padded_shapes(sizes: Counter[Size], most: int) -> list[Size]:
    """At most `most` boxes, such that each of `sizes` fits in one, with the fewest pixels left over.

    Sizes are (short, long) sides with how often each comes. In the order of their pixels they are cut into groups, and
    each group has its bounding box: by dynamic programming over the cuts, so no other cut leaves less over.
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


def holding(padded_shapes: Iterable[PaddedShape], padded_shape: PaddedShape) -> list[PaddedShape]:
    """Those of `padded_shapes` that an image of `padded_shape` fits in."""
    return [other for other in padded_shapes if fits(padded_shape, other)]


def fits(padded_shape: PaddedShape, other: PaddedShape) -> bool:
    """Whether an image of `padded_shape` lies within `other`."""
    return padded_shape[0] <= other[0] and padded_shape[1] <= other[1]


def _turned_too(padded_shapes: Iterable[PaddedShape]) -> tuple[PaddedShape, ...]:
    both = {turned for high, wide in padded_shapes for turned in (PaddedShape(high, wide), PaddedShape(wide, high))}
    return tuple(sorted(both, key=lambda padded_shape: padded_shape.pixels))


def _area(size: Size) -> int:
    return size[0] * size[1]


def _rounded(sizes: Counter[Size], step: int) -> Counter[Size]:
    rounded: Counter[Size] = Counter()
    for (short, long), count in sizes.items():
        rounded[-(-short // step) * step, -(-long // step) * step] += count
    return rounded
