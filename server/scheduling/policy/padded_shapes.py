"""The PaddedShapes: the few shapes that mixed-size batches are padded to, chosen from the traffic."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from itertools import accumulate

from server.scheduling.queue.tile import PaddedShape

# Not counting turned shapes. For each shape a device keeps some memory.
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


def fits(padded_shape: PaddedShape, other: PaddedShape) -> bool:
    """Tell whether an image of `padded_shape` fits in `other`, of the same model."""
    return padded_shape[0] <= other[0] and padded_shape[1] <= other[1] and padded_shape[2] == other[2]


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
