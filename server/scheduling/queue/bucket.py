"""The ShapeBucket: the waiting tiles of one padded_shape."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain, islice
from operator import attrgetter

from server.scheduling.queue.tile import PaddedShape, Tile

_due = attrgetter("due")


class ShapeBucket:
    """Jobs in the order they leave: interactive before batch, and in each class the earliest due first.

    Only a bucket makes a batch, so only equal padded_shapes can leave together.
    """

    __slots__ = ("classes", "padded_shape")

    def __init__(self, padded_shape: PaddedShape) -> None:
        self.padded_shape = padded_shape
        self.classes: tuple[list[Tile], list[Tile]] = ([], [])
        """The tiles by priority."""

    def __len__(self) -> int:
        return len(self.classes[0]) + len(self.classes[1])

    def __iter__(self) -> Iterator[Tile]:
        return chain(*self.classes)

    @property
    def head(self) -> Tile:
        """The tile that leaves first; IndexError if there is none."""
        return (self.classes[0] or self.classes[1])[0]

    def add(self, tile: Tile) -> None:
        tiles = self.classes[tile.priority]
        if not tiles or tiles[-1].due <= tile.due:  # as good as always
            tiles.append(tile)
        else:
            tiles.insert(bisect_right(tiles, tile.due, key=_due), tile)

    def discard(self, tile: Tile) -> bool:
        """Remove a tile; False if it is not here."""
        tiles = self.classes[tile.priority]
        if tile not in tiles:
            return False
        tiles.remove(tile)
        return True

    def pop(self, batch_first: bool = False) -> Tile:
        """Remove and return the head, or that of the batch class if it is to go first."""
        interactive, batch = self.classes
        return (batch if batch and (batch_first or not interactive) else interactive).pop(0)

    def has(self, count: int, now: float) -> bool:
        """Whether at least `count` tiles are left to run: caller still there, deadline not passed."""
        if len(self) < count:
            return False
        left = (tile for tile in self if not tile.future.done() and not tile.expired(now))
        return sum(1 for _ in islice(left, count)) == count
