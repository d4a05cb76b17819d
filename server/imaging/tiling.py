"""Tiling: the division of an image into equal tiles that the network can process."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from server.backends.base import ModelSpec, Pixels
from server.errors import InvalidRequest

Weights = NDArray[np.float32]

DEFAULT_TILE = 512
"""Longest side of a tile in pixels unless the request sets one; chosen from the table in docs/large-photos.md."""
DEFAULT_OVERLAP = 32
"""Minimum overlap of neighbouring tiles in pixels, from the same table."""
SMALLEST_TILE = 64
"""Pixels. Smaller tiles would be mostly overlap, and too small for the network's statistics over all pixels."""
SIDES_PER_MULTIPLE = 4
"""Tile sides are multiples of this many size multiples of the network, so that photos of many sizes share few shape
buckets."""
TILES_PER_OVERLAP = 4
"""The overlap is at most the tile side divided by this, which keeps the two seams of a tile apart."""
PLANS_KEPT = 64
"""Maximum number of cached plans."""
WEIGHT_STEPS = 1024
"""Weights are multiples of 1 / 1024, so that their products and sums are exact in float32."""


@dataclass(frozen=True)
class Tile:
    """Rows and columns of an image covered by one network run, padded to the network's size multiple."""

    top: int
    left: int
    height: int
    width: int
    padded_height: int
    padded_width: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)

    @property
    def padded_pixels(self) -> int:
        """Pixels of the run, including padding."""
        return self.padded_height * self.padded_width


@dataclass(frozen=True)
class Span:
    """An interval `[start, stop)` of one axis, in image pixels, covered by the same one or two tiles."""

    start: int
    stop: int
    first: int
    last: int

    @property
    def tiles(self) -> range:
        return range(self.first, self.last + 1)


@dataclass(frozen=True)
class Axis:
    """One side of an image: `length` pixels divided into equal tiles of `side` pixels that begin at `starts`.

    Neighbours are blended over `feather` pixels in the middle of their overlap.
    """

    length: int
    side: int
    starts: tuple[int, ...]
    feather: int

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """All spans in order: tile 0 alone, seam of 0 and 1, tile 1 alone, ...; empty ones are left out."""
        edges = [0]
        for start, following in itertools.pairwise(self.starts):
            seam = (following + start + self.side - self.feather) // 2
            edges += [seam, seam + self.feather]
        edges.append(self.length)
        pairs = itertools.pairwise(edges)
        spans = (Span(a, min(b, self.length), k // 2, (k + 1) // 2) for k, (a, b) in enumerate(pairs))
        return tuple(span for span in spans if span.start < span.stop)

    def weights(self, span: Span, index: int) -> Weights:
        """Return the weights of tile `index` in `span`; over the tiles of a span they sum to exactly 1."""
        if span.first == span.last:
            return np.ones(span.stop - span.start, np.float32)
        position = np.arange(span.stop - span.start, dtype=np.float32)
        rising = np.round((position + 0.5) * (WEIGHT_STEPS / self.feather)) / np.float32(WEIGHT_STEPS)
        return np.asarray(rising if index == span.last else 1 - rising, np.float32)


@dataclass(frozen=True)
class Grid:
    """Equal tiles of one image in row-major order; iterating yields the tiles.

    Images of one size share their grid, so what small ones ask for on each request is computed once.
    """

    vertical: Axis
    horizontal: Axis
    guided: bool = False
    """Whether an additional run, of the whole photo at reduced size, sets the tone of the tiles: see `Guide`."""

    def __len__(self) -> int:
        return len(self.vertical.starts) * len(self.horizontal.starts)

    def __iter__(self) -> Iterator[Tile]:
        if self.is_whole:
            yield self._only_tile
            return
        for top in self.vertical.starts:
            for left in self.horizontal.starts:
                yield self._tile(top, left)

    def _tile(self, top: int, left: int) -> Tile:
        return Tile(
            top,
            left,
            min(self.vertical.side, self.vertical.length - top),
            min(self.horizontal.side, self.horizontal.length - left),
            self.vertical.side,
            self.horizontal.side,
        )

    @cached_property
    def _only_tile(self) -> Tile:  # kept, but not the tiles of a photo, which can be thousands
        return self._tile(0, 0)

    @cached_property
    def is_whole(self) -> bool:
        """Whether one tile covers the whole image."""
        return len(self) == 1

    @cached_property
    def runs(self) -> int:
        """The number of runs: the tiles, and the tone guide if there is one."""
        return len(self) + self.guided

    @cached_property
    def tile_shape(self) -> tuple[int, int]:
        """Padded (height, width) of all tiles."""
        return self.vertical.side, self.horizontal.side

    @cached_property
    def height(self) -> int:
        return self.vertical.length

    @cached_property
    def width(self) -> int:
        return self.horizontal.length


@lru_cache(PLANS_KEPT)  # every request needs its plan twice, and photos have few different sizes
def plan(
    height: int,
    width: int,
    multiple: int,
    max_pixels: int | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    *,
    guided: bool = False,
) -> Grid:
    """Divide a height x width image into equal tiles whose sides are multiples of `multiple`.

    An image of at most `max_pixels` (padded; None: no limit) is one tile, unless `tile` requests smaller ones. Tiles
    have sides of at most `tile`, by default DEFAULT_TILE, and at most `max_pixels` pixels. Neighbours overlap by at
    least `overlap` pixels. No other code may pad: the network's attention and prompts are sums over all pixels, so
    more padding would change every output pixel. With `guided`, images of several tiles have a tone guide. Raises
    InvalidRequest for an invalid `tile` or `overlap`.
    """
    side = _tile_side(tile, multiple, max_pixels)
    overlap = _overlap(overlap, side, multiple)
    padded = _round_up(height, multiple), _round_up(width, multiple)
    if tile is None and (max_pixels is None or padded[0] * padded[1] <= max_pixels):
        side = max(padded)
    vertical, horizontal = _axis(height, multiple, side, overlap), _axis(width, multiple, side, overlap)
    return Grid(vertical, horizontal, guided and len(vertical.starts) * len(horizontal.starts) > 1)


def cut(pixels: Pixels, tile: Tile) -> Pixels:
    """Crop a tile from (3, H, W) pixels and pad it: see `pad`."""
    return pad(pixels[:, tile.rows, tile.columns], tile)


def pad(pixels: Pixels, tile: Tile) -> Pixels:
    """Reflect-pad a tile's (3, height, width) pixels, at least 1 x 1, at the bottom and right."""
    below, beside = tile.padded_height - tile.height, tile.padded_width - tile.width
    if below == 0 and beside == 0:
        return np.ascontiguousarray(pixels)
    # NumPy reflects a side shorter than its padding repeatedly, and repeats a side of one pixel.
    return np.pad(pixels, ((0, 0), (0, below), (0, beside)), mode="reflect")


def crop(restored: Pixels, tile: Tile) -> Pixels:
    """Remove the padding of a restored (3, padded_height, padded_width) tile; returns a (3, height, width) view."""
    return restored[:, : tile.height, : tile.width]


def tile_sides(multiple: int, max_pixels: int | None = None) -> tuple[int, int | None, int]:
    """Return the smallest and largest (None: no limit) allowed value of `tile`, and the step between values."""
    step = SIDES_PER_MULTIPLE * multiple
    smallest = _round_up(SMALLEST_TILE, step)
    return smallest, None if max_pixels is None else max(smallest, math.isqrt(max_pixels) // step * step), step


def fitting_tile(height: int, width: int, model: ModelSpec, max_pixels: int | None = None) -> int | None:
    """Choose a `tile` for an image that would be one tile, but of a size that the model does not accept.

    None if the model accepts the whole image, or none of the possible tiles.
    """
    if not model.size_ranges:
        return None
    padded = _round_up(height, model.size_multiple), _round_up(width, model.size_multiple)
    if model.takes(*padded) or (max_pixels is not None and padded[0] * padded[1] > max_pixels):
        return None
    smallest, largest, step = tile_sides(model.size_multiple, max_pixels)
    first = DEFAULT_TILE if largest is None else min(DEFAULT_TILE, largest)
    sides = range(first, smallest - 1, -step)
    return next((side for side in sides if model.takes(min(side, padded[0]), min(side, padded[1]))), None)


def _tile_side(tile: int | None, multiple: int, max_pixels: int | None) -> int:
    smallest, largest, step = tile_sides(multiple, max_pixels)
    if tile is None:
        return max(smallest, DEFAULT_TILE if largest is None else min(DEFAULT_TILE, largest))
    if tile < smallest or tile % step or (largest is not None and tile > largest):
        upper = "" if largest is None else f" to {largest}"
        raise InvalidRequest(f"tile must be a multiple of {step} from {smallest}{upper}, not {tile}.")
    return tile


def _overlap(overlap: int | None, side: int, multiple: int) -> int:
    largest = side // TILES_PER_OVERLAP
    if overlap is None:
        return min(DEFAULT_OVERLAP, largest)
    if not 0 <= overlap <= largest:
        raise InvalidRequest(f"overlap must be from 0 to {largest}, a quarter of the tile, not {overlap}.")
    return _round_up(overlap, multiple)


def _axis(length: int, multiple: int, side: int, overlap: int) -> Axis:
    """Divide one side into as few tiles as `side` allows, as short as possible and evenly spaced.

    All positions are multiples of `multiple`, so that the network's downsampling groups the same pixels as in the whole
    frame.
    """
    padded = _round_up(length, multiple)
    if padded <= side:
        return Axis(length, padded, (0,), 0)
    count = math.ceil((padded - overlap) / (side - overlap))
    fitting = math.ceil((padded + (count - 1) * overlap) / count)
    side = min(side, _round_up(fitting, SIDES_PER_MULTIPLE * multiple))
    steps = (padded - side) // multiple
    starts = tuple(index * steps // (count - 1) * multiple for index in range(count))
    return Axis(length, side, starts, overlap)


def _round_up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple
