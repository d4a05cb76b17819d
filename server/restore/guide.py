"""The Guide: the whole frame in one run, from which the tiles of a photo take their tone."""

import threading
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from server.backends.base import Aux, Pixels
from server.imaging import tiling
from server.imaging.tiling import Axis, Grid, Tile

SIGMA_CELLS = 2.5
"""Of the low frequencies that are the frame's: docs/tiling.md has the table it was chosen from."""
MEDIAN_CELLS = 5
"""A streak of rain that one of the runs left is no tone, and is gone from a median of so many cells by as many."""
FAINT = 1.5 / 255
"""A difference in tone of less is left to the tiles, which see the photo itself, and one of more is the frame's."""
MOST_SQUEEZE = 2.0
"""One side is reduced by at most this much more than the other, which would draw noise out into streaks."""
ROUNDING = 1e-6
"""In cells: an edge that is a whole number of them is one in floating point, too."""
ROWS_AT_ONCE = 64
"""The frame is float32 in bands of so many rows only."""

# OpenCV multiplies smaller ones without OpenBLAS.
_LARGE = 256
_workspace = threading.Lock()

Matrix = NDArray[np.float32]
Crop = Callable[[slice, slice], Pixels]
"""Returns some rows and columns of a photo as (3, height, width) pixels."""


class Stretch(NamedTuple):
    """One side of a tile, cut into `cells` equal cells of about the size that those of the reduced frame have."""

    cells: int
    seen: slice
    """The cells of the frame that the tile lies in."""
    share: Matrix
    """(cells, seen cells of the frame): what each of these has in each cell of the tile; rows sum to 1."""
    spread: Matrix
    """(pixels, cells): a smooth curve through values of the tile's cells, at each of its pixels."""


class Guide:
    """Makes the low frequencies of every restored tile those of the restored frame.

    Each tile decides its tone from what it sees, so neighbours differ. The whole frame is reduced to the shape of a
    tile by area averaging and runs as one more tile; a pixel of it is a cell. What it changed and a tile did not is
    smoothed and added to that tile before tiles are blended: so no order of tiles matters, no second copy of the photo
    is made, and a step between two tiles is removed rather than blurred. `correct` may be called from several threads,
    once `take` has returned.
    """

    def __init__(self, grid: Grid, sigma_cells: float = SIGMA_CELLS, faint: float = FAINT) -> None:
        self.tile = _reduced(grid)
        """Where the reduced frame lies in its run, whose shape is that of every tile."""
        self.aux: Aux | None = None
        """Those of the whole frame, once it has run."""
        self._grid = grid
        self._sigma_cells = sigma_cells
        self._faint = np.float32(faint)
        self._frame: Pixels
        self._change: Pixels

    def reduce(self, crop: Crop) -> Pixels:
        """Return the whole frame as the network takes a tile: (3, padded_height, padded_width)."""
        self._rows = _stretches(self._grid.vertical, self.tile.height, self._sigma_cells)
        self._columns = _stretches(self._grid.horizontal, self.tile.width, self._sigma_cells)
        height, width, columns = self._grid.height, self._grid.width, self.tile.width
        narrow = np.empty((3, height, columns), np.float32)
        for top in range(0, height, ROWS_AT_ONCE):
            rows = slice(top, min(height, top + ROWS_AT_ONCE))
            for plane, target in zip(crop(rows, slice(0, width)), narrow[:, rows], strict=True):
                target[:] = _averaged(plane, target.shape)
        self._frame = np.empty((3, self.tile.height, columns), np.float32)
        for plane, target in zip(narrow, self._frame, strict=True):
            target[:] = _averaged(plane, target.shape)
        return tiling.pad(self._frame, self.tile)

    def take(self, restored: Pixels, aux: Aux | None = None) -> None:
        """Take what the run of the reduced frame answered, before any tile is corrected."""
        self.aux = aux
        self._change = np.clip(tiling.crop(restored, self.tile), 0, 1) - self._frame

    def correct(self, tile: Tile, pixels: Pixels, restored: Pixels) -> Pixels:
        """Return a tile that was cut as `pixels` and came back as `restored` in the tone of the frame, and clipped."""
        rows, columns = self._rows[tile.top], self._columns[tile.left]
        corrected = np.clip(restored, 0, 1)
        answer = tiling.crop(corrected, tile)
        for plane, before, frame in zip(answer, tiling.crop(pixels, tile), self._change, strict=True):
            change = _averaged(plane - before, (rows.cells, columns.cells))
            missing = _product(rows.share, frame[rows.seen, columns.seen], columns.share) - change
            tone = _product(rows.spread, cv2.medianBlur(missing, MEDIAN_CELLS), columns.spread)
            certain = np.square(np.square(tone / self._faint))
            plane += tone * (certain / (certain + 1))
        return corrected


def _reduced(grid: Grid) -> Tile:
    rows, columns = grid.tile_shape
    tall, wide = max(1.0, grid.height / rows), max(1.0, grid.width / columns)
    least = max(tall, wide) / MOST_SQUEEZE
    height, width = round(grid.height / max(tall, least)), round(grid.width / max(wide, least))
    return Tile(0, 0, max(1, height), max(1, width), rows, columns)


def _averaged(plane: Pixels, shape: tuple[int, ...]) -> Matrix:
    return np.asarray(cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_AREA), np.float32)


def _product(rows: Matrix, values: Matrix, columns: Matrix) -> Matrix:
    """`rows @ values @ columns.T`, in the calling thread: that of NumPy may start one on every core for each tile."""
    nothing = np.empty(0, np.float32)
    values = np.ascontiguousarray(values)
    with _workspace:
        narrow = cv2.gemm(rows, values, 1.0, nothing, 0.0)
        return np.asarray(cv2.gemm(narrow, columns, 1.0, nothing, 0.0, flags=cv2.GEMM_2_T), np.float32)


def reserve_workspace() -> None:
    """Have memory for the products before any of it is short: where there is none for them, the process is lost.

    OpenBLAS in OpenCV asks for a workspace at the first product of this size, does not look whether it came, and keeps
    it for the next. For two products at the same time it would need two.
    """
    large = np.zeros((_LARGE, _LARGE), np.float32)
    _product(large, large, large)


def _stretches(axis: Axis, cells: int, sigma_cells: float) -> dict[int, Stretch]:
    """The stretch of each tile along an axis that is reduced to so many cells, by where the tile begins."""
    size = axis.length / cells
    return {
        start: _stretch(start, min(axis.side, axis.length - start), size, sigma_cells * size) for start in axis.starts
    }


def _stretch(start: int, pixels: int, size: float, sigma: float) -> Stretch:
    cells = max(1, round(pixels / size))
    edges = start + np.arange(cells + 1) * (pixels / cells)
    first, last = int(start / size), int(np.ceil((start + pixels) / size - ROUNDING))
    frame = np.arange(first, last + 1) * size
    common = np.minimum(edges[1:, None], frame[1:]) - np.maximum(edges[:-1, None], frame[:-1])
    share = np.maximum(common, 0.0) * (cells / pixels)
    spread = _smooth(start + np.arange(pixels) + 0.5, (edges[1:] + edges[:-1]) / 2, sigma)
    return Stretch(cells, slice(first, last), share.astype(np.float32), spread.astype(np.float32))


def _smooth(at: NDArray[np.floating], centres: NDArray[np.floating], sigma: float) -> NDArray[np.float64]:
    """The weights (positions, centres) of local linear regression under a Gaussian window.

    Unlike a plain blur it follows a slope up to the border of a tile, so that neighbours agree there (Fan and Gijbels,
    Local Polynomial Modelling, 1996, chapter 3).
    """
    distance = centres - at[:, None]
    window: NDArray[np.float64] = np.exp(-0.5 * np.square(distance / sigma))
    if len(centres) == 1:
        return np.ones_like(window)
    none, first, second = ((window * distance**power).sum(axis=1, keepdims=True) for power in range(3))
    weights: NDArray[np.float64] = window * (second - distance * first) / (none * second - first**2)
    return weights
