"""The TileQueue: all waiting tiles, in buckets."""

import threading
from collections.abc import Callable, Iterable, ValuesView
from dataclasses import dataclass, field

from server.errors import NotReady, PromptIRServeError
from server.scheduling.queue.bucket import ShapeBucket
from server.scheduling.queue.tile import PaddedShape, Tile

Refusal = Callable[[], PromptIRServeError]


@dataclass(slots=True)
class Taken:
    """What one take removed: tiles to run together, all of one padded shape, and tiles whose deadline had passed."""

    tiles: list[Tile] = field(default_factory=list)
    expired: list[Tile] = field(default_factory=list)


def _starting() -> PromptIRServeError:
    return NotReady("the server is starting; it has no backend yet")


def _nothing() -> None:
    """What is called at the close while nobody watches it."""


class TileQueue:
    """Keeps tiles in buckets of one padded shape and hands them out; safe to use from any thread.

    It refuses everything until `open`, after `pause`, and for good after `close`; what waits at `close` can still be
    taken. `lock` may be held over several calls.
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
        """Jobs that wait."""
        return self._tiles

    @property
    def pixels(self) -> int:
        """Pixels that wait."""
        return self._pixels

    @property
    def buckets(self) -> ValuesView[ShapeBucket]:
        """The buckets with at least one tile; to be looked at with the lock held."""
        return self._buckets.values()

    @property
    def is_open(self) -> bool:
        return self._refusal is None

    def open(self) -> None:
        """Admit tiles from now on; a queue that was closed stays closed."""
        with self.lock:
            if not self.closed:
                self._refusal = None

    def pause(self, refusal: Refusal) -> None:
        """Refuse further tiles with `refusal()` until `open`; what waits stays."""
        with self.lock:
            if not self.closed:
                self._refusal = refusal

    def close(self, refusal: Refusal) -> None:
        """Refuse every further tile with `refusal()`, for good; the first call decides the refusal."""
        with self.lock:
            if not self.closed:
                self._refusal = refusal
            self.closed = True
            self.on_close()

    def check_open(self) -> None:
        """Raise what a tile would be refused with, if the queue is not open."""
        if (refusal := self._refusal) is not None:
            raise refusal()

    def bucket(self, padded_shape: PaddedShape) -> ShapeBucket | None:
        """The bucket of a padded shape, if it has tiles."""
        return self._buckets.get(padded_shape)

    def has_room(self, pixels: int) -> bool:
        """Whether a tile of so many pixels would be taken; an empty queue has room for any tile, however large."""
        return not self._tiles or self._pixels + pixels <= self.max_pixels

    def offer(self, tile: Tile, *, admitted: bool = False) -> bool:
        """Add a tile to its bucket; False if there is no room. Raises what the queue refuses with while not open.

        Room was made before for a tile that is `admitted` already.
        """
        with self.lock:
            self.check_open()
            if not admitted and not self.has_room(tile.pixel_count):
                return False
            bucket = self._buckets.get(tile.padded_shape)
            if bucket is None:
                bucket = self._buckets[tile.padded_shape] = ShapeBucket(tile.padded_shape)
            bucket.add(tile)
            self._tiles += 1
            self._pixels += tile.pixel_count
            return True

    def discard(self, tile: Tile) -> bool:
        """Remove a tile that waits; False if it has left already."""
        with self.lock:
            bucket = self._buckets.get(tile.padded_shape)
            if bucket is None or not bucket.discard(tile):
                return False
            self._left(bucket)
            return True

    def take(self, bucket: ShapeBucket, count: int, now: float, device: object, *, batch_first: bool = False) -> Taken:
        """Remove up to `count` tiles from the head of a bucket, to run on `device`; nothing may be left to run.

        Jobs whose caller has left are dropped on the way, and those whose deadline has passed are set apart. With
        `batch_first` the batch class leaves before the interactive one.
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
            # Under the same lock, so that no moment exists in which a tile is neither waiting nor running.
            self._running |= dict.fromkeys(taken.tiles + taken.expired, device)
        return taken

    @property
    def running(self) -> list[Tile]:
        """The tiles that were taken, until `release`."""
        with self.lock:
            return list(self._running)

    def release(self, tiles: Iterable[Tile] | None = None) -> None:
        """Forget tiles that were taken, all of them by default: each has its end."""
        with self.lock:
            for tile in list(self._running) if tiles is None else tiles:
                self._running.pop(tile, None)

    def release_from(self, device: object) -> list[Tile]:
        """Forget and return the tiles that were taken to run on a device."""
        with self.lock:
            tiles = [tile for tile, place in self._running.items() if place == device]
            self.release(tiles)
            return tiles

    def clear(self) -> list[Tile]:
        """Remove and return everything that waits."""
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
