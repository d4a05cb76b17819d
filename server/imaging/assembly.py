"""Blending of restored tiles into one image."""

from threading import Lock
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from server.backends.base import Pixels
from server.imaging import tiling
from server.imaging.tiling import Axis, Grid, Span, Tile

Samples = NDArray[np.uint8] | NDArray[np.uint16]
SampleType = np.dtype[np.uint8] | np.dtype[np.uint16] | np.dtype[np.float32]
Cell = tuple[Span, Span]
"""Rows and columns of a rectangle covered by the same tiles: one, two at a seam, four where seams cross."""


class Assembly:
    """Blends the tiles of a grid, in any order, into (3, H, W) RGB samples.

    Pixels covered by a single tile are written directly; seams are held in float32 until all of their tiles have
    arrived: one row of seams if the tiles come in order, never the whole image. The result is bit-identical for every
    order. Integer types use their full range; `dtype` float32 keeps [0, 1]. `is_grey` makes (1, H, W), the mean of the
    three planes, which has the least noise.
    """

    def __init__(self, grid: Grid, dtype: SampleType, is_grey: bool = False) -> None:
        self._grid = grid
        self._is_grey = is_grey
        self._missing = {(tile.top, tile.left) for tile in grid}
        self._seams: dict[Cell, dict[tuple[int, int], Pixels]] = {}
        self._lock = Lock()
        self._samples: Samples | Pixels = np.empty((1 if is_grey else 3, grid.height, grid.width), dtype)

    @property
    def missing(self) -> int:
        """The number of tiles that have not arrived."""
        return len(self._missing)

    @property
    def held_bytes(self) -> int:
        """Bytes held by seams that wait for a tile."""
        return sum(part.nbytes for parts in self._seams.values() for part in parts.values())

    @property
    def pixels(self) -> Samples | Pixels:
        """The whole image; raises RuntimeError while a tile is missing."""
        if self._missing:
            raise RuntimeError(f"{len(self._missing)} of {len(self._grid)} tiles have not arrived")
        return self._samples

    @property
    def samples(self) -> Samples:
        """The whole image, if it has an integer type."""
        return cast(Samples, self.pixels)

    @property
    def planes(self) -> tuple[Samples, ...]:
        """The whole image as (H, W) views."""
        return tuple(self.samples)

    def add(self, tile: Tile, restored: Pixels) -> bool:
        """Add the restored (3, padded_height, padded_width) pixels of a tile, once per tile; thread-safe.

        Values outside [0, 1] are clipped after blending. Returns whether this was the last tile.
        """
        with self._lock:
            self._missing.remove((tile.top, tile.left))  # KeyError: not in this grid, or added before
            vertical, horizontal = self._grid.vertical, self._grid.horizontal
            if self._grid.is_whole:
                self._write((vertical.spans[0], horizontal.spans[0]), tiling.crop(restored, tile))
                return True
            row, column = vertical.starts.index(tile.top), horizontal.starts.index(tile.left)
            for rows in _spans_of(vertical, row):
                for columns in _spans_of(horizontal, column):
                    part = restored[
                        :,
                        rows.start - tile.top : rows.stop - tile.top,
                        columns.start - tile.left : columns.stop - tile.left,
                    ]
                    if len(rows.tiles) * len(columns.tiles) > 1:
                        weights = np.outer(vertical.weights(rows, row), horizontal.weights(columns, column))
                        self._add_to_seam((rows, columns), (row, column), part * weights)
                    else:
                        self._write((rows, columns), part)
            return not self._missing

    def _add_to_seam(self, cell: Cell, index: tuple[int, int], part: Pixels) -> None:
        parts = self._seams.setdefault(cell, {})
        parts[index] = part
        if len(parts) == len(cell[0].tiles) * len(cell[1].tiles):
            del self._seams[cell]
            # Summed in grid order, because floating-point sums depend on it.
            self._write(cell, np.sum([parts[place] for place in sorted(parts)], axis=0, dtype=np.float32))

    def _write(self, cell: Cell, pixels: Pixels) -> None:
        rows, columns = cell
        target = self._samples[:, rows.start : rows.stop, columns.start : columns.stop]
        planes = pixels.mean(axis=0, keepdims=True, dtype=np.float32) if self._is_grey else pixels
        if target.dtype == np.float32:
            np.clip(planes, 0.0, 1.0, out=target)
            return
        depth, full = (cv2.CV_8U, 255.0) if self._samples.dtype == np.uint8 else (cv2.CV_16U, 65535.0)
        if planes.flags.c_contiguous and target.flags.c_contiguous:  # whole images: all planes in one call
            planes, target = planes.reshape(1, -1, planes.shape[2]), target.reshape(1, -1, target.shape[2])
        for plane, samples in zip(planes, target, strict=True):
            # OpenCV's one-pass scale, round and saturate.
            cv2.addWeighted(plane, full, plane, 0.0, 0.0, dst=samples, dtype=depth)


def _spans_of(axis: Axis, index: int) -> list[Span]:
    return [span for span in axis.spans if index in span.tiles]
