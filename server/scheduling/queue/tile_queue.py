"""The TileQueue: all waiting tiles, in buckets of one model and padded shape."""

import math
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, ValuesView
from dataclasses import dataclass, field
from itertools import chain, islice
from operator import attrgetter
from typing import NamedTuple

from server.errors import NotReady, PromptIRServeError
from server.scheduling.queue.tile import PaddedShape, Priority, Tile

Refusal = Callable[[], PromptIRServeError]

_due = attrgetter("due")


class BucketView(NamedTuple):
    """What waits in one bucket, as plain data; the head is the tile that leaves first. Times are in seconds."""

    padded_shape: PaddedShape
    tiles: int
    interactive: int
    """Tiles of the interactive class; the others are of the batch class."""
    enqueued_at: float
    """When the head came."""
    due: float
    """When the head goes first in its class."""
    deadline: float | None = None
    """That of the head."""
    batch_due: float = math.inf
    """When the first batch tile is overdue; infinite if there is none."""

    @property
    def priority(self) -> Priority:
        """The class of the head."""
        return Priority.INTERACTIVE if self.interactive else Priority.BATCH


class ShapeBucket:
    """Keeps tiles of one padded shape in the order they leave: by class, then by due time."""

    __slots__ = ("_view", "classes", "padded_shape")

    def __init__(self, padded_shape: PaddedShape) -> None:
        self.padded_shape = padded_shape
        self.classes: tuple[list[Tile], list[Tile]] = ([], [])
        """The tiles by priority."""
        self._view: BucketView | None = None

    def __len__(self) -> int:
        return len(self.classes[0]) + len(self.classes[1])

    def __iter__(self) -> Iterator[Tile]:
        return chain(*self.classes)

    @property
    def view(self) -> BucketView:
        """Snapshot of the waiting tiles, which later changes do not affect; raises IndexError if there are none."""
        if self._view is None:  # it is made once for each change of the bucket, not for each decision
            interactive, batch = self.classes
            head = (interactive or batch)[0]
            self._view = BucketView(
                self.padded_shape,
                len(interactive) + len(batch),
                len(interactive),
                head.enqueued_at,
                head.due,
                head.deadline,
                batch[0].due if batch else math.inf,
            )
        return self._view

    def add(self, tile: Tile) -> None:
        """Insert a tile at its place in the order."""
        self._view = None
        tiles = self.classes[tile.priority]
        if not tiles or tiles[-1].due <= tile.due:  # nearly always
            tiles.append(tile)
        else:
            tiles.insert(bisect_right(tiles, tile.due, key=_due), tile)

    def discard(self, tile: Tile) -> bool:
        """Remove a tile; False if it is not here."""
        tiles = self.classes[tile.priority]
        if tile not in tiles:
            return False
        self._view = None
        tiles.remove(tile)
        return True

    def pop(self, batch_first: bool = False) -> Tile:
        """Remove and return the head, or the first batch tile if those are to leave first."""
        self._view = None
        interactive, batch = self.classes
        return (batch if batch and (batch_first or not interactive) else interactive).pop(0)

    def has(self, count: float, now: float) -> bool:
        """Tell whether at least `count` tiles still need an answer: not cancelled, deadline not passed."""
        if len(self) < count:
            return False
        left = (tile for tile in self if not tile.future.done() and not tile.expired(now))
        return sum(1 for _ in islice(left, int(count))) == count


@dataclass(slots=True)
class Taken:
    """The tiles that one take removed: those to run together, and those whose deadline had passed."""

    tiles: list[Tile] = field(default_factory=list)
    expired: list[Tile] = field(default_factory=list)


def _starting() -> PromptIRServeError:
    return NotReady("the server is starting; it has no backend yet")


def _nothing() -> None:
    """Do nothing at the close, until `on_close` is set."""


class TileQueue:
    """Keeps tiles in buckets of one padded shape and hands them out; safe to use from any thread.

    It refuses all tiles before `open`, after `pause` and, for good, after `close`; tiles that wait at `close` can still
    be taken. `lock` may be held over several calls.
    """

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self.lock = threading.RLock()
        self.closed = False
        self.on_close: Callable[[], None] = _nothing
        """Called at the close, with the lock held."""
        self._buckets: dict[PaddedShape, ShapeBucket] = {}
        self._tiles = 0
        self._pixels = 0
        self._running: dict[Tile, object] = {}
        self._refusal: Refusal | None = _starting

    @property
    def tiles(self) -> int:
        """The number of waiting tiles."""
        return self._tiles

    @property
    def pixels(self) -> int:
        """The number of pixels of all waiting tiles."""
        return self._pixels

    @property
    def buckets(self) -> ValuesView[ShapeBucket]:
        """The buckets with at least one tile; hold the lock while you iterate over them."""
        return self._buckets.values()

    @property
    def is_open(self) -> bool:
        """Whether tiles are admitted."""
        return self._refusal is None

    def open(self) -> None:
        """Admit tiles from now on; a queue that was closed stays closed."""
        with self.lock:
            if not self.closed:
                self._refusal = None

    def pause(self, refusal: Refusal) -> None:
        """Refuse further tiles with `refusal()` until `open`; waiting tiles stay."""
        with self.lock:
            if not self.closed:
                self._refusal = refusal

    def close(self, refusal: Refusal) -> None:
        """Refuse all further tiles with `refusal()`, for good; the first call decides the refusal."""
        with self.lock:
            if not self.closed:
                self._refusal = refusal
            self.closed = True
            self.on_close()

    def check_open(self) -> None:
        """Raise the refusal of a new tile if the queue is not open."""
        if (refusal := self._refusal) is not None:
            raise refusal()

    def bucket(self, padded_shape: PaddedShape) -> ShapeBucket | None:
        """Return the bucket of a padded shape, or None if no tile of it waits."""
        return self._buckets.get(padded_shape)

    def has_room(self, pixels: int) -> bool:
        """Tell whether a tile of `pixels` would be taken; an empty queue has room for a tile of any size."""
        return not self._tiles or self._pixels + pixels <= self.max_pixels

    def offer(self, tile: Tile, *, admitted: bool = False) -> bool:
        """Add a tile to its bucket; False if there is no room. Raises the queue's refusal while it is not open.

        An `admitted` tile was checked for room before.
        """
        with self.lock:
            self.check_open()
            padded_shape, pixels = tile.padded_shape, tile.pixel_count
            if not admitted and not self.has_room(pixels):
                return False
            bucket = self._buckets.get(padded_shape)
            if bucket is None:
                bucket = self._buckets[padded_shape] = ShapeBucket(padded_shape)
            bucket.add(tile)
            self._tiles += 1
            self._pixels += pixels
            return True

    def discard(self, tile: Tile) -> bool:
        """Remove a waiting tile; False if it has left already."""
        with self.lock:
            bucket = self._buckets.get(tile.padded_shape)
            if bucket is None or not bucket.discard(tile):
                return False
            self._left(bucket)
            return True

    def take(self, bucket: ShapeBucket, count: int, now: float, device: object, *, batch_first: bool = False) -> Taken:
        """Remove up to `count` tiles from the head of a bucket, to run on `device`; there may be none left to run.

        Tiles whose caller has left are dropped, and those whose deadline has passed are set apart. With `batch_first`
        batch tiles leave before interactive ones.
        """
        taken = Taken()
        with self.lock:
            while len(bucket) and len(taken.tiles) < count:
                tile = bucket.pop(batch_first)
                self._left(bucket)
                if tile.future.done():
                    continue
                tile.taken = not tile.expired(now)
                (taken.tiles if tile.taken else taken.expired).append(tile)
            # Under the same lock, so that a tile is at every moment either waiting or running.
            self._running |= dict.fromkeys(taken.tiles + taken.expired, device)
        return taken

    @property
    def running(self) -> list[Tile]:
        """The tiles that were taken and not released yet."""
        with self.lock:
            return list(self._running)

    def release(self, tiles: Iterable[Tile] | None = None) -> None:
        """Forget taken tiles (by default all of them) that have ended."""
        with self.lock:
            for tile in list(self._running) if tiles is None else tiles:
                self._running.pop(tile, None)

    def release_from(self, device: object) -> list[Tile]:
        """Forget and return the tiles that were taken to run on `device`."""
        with self.lock:
            tiles = [tile for tile, place in self._running.items() if place == device]
            self.release(tiles)
            return tiles

    def clear(self) -> list[Tile]:
        """Remove and return all waiting tiles."""
        with self.lock:
            tiles = [tile for bucket in self._buckets.values() for tile in bucket]
            self._buckets.clear()
            self._tiles = self._pixels = 0
            return tiles

    def _left(self, bucket: ShapeBucket) -> None:
        self._tiles -= 1
        self._pixels -= bucket.padded_shape.height * bucket.padded_shape.width
        if not len(bucket):
            del self._buckets[bucket.padded_shape]
