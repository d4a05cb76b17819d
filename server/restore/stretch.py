"""The Stretch: one side of a tile in cells, with the curves through them and the seams at both ends."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.imaging.tiling import Axis, Span

CELL = 8
"""Pixels: tone is what is left of a tile in cells of about this size."""
ROUNDING = 1e-6
"""In cells: an edge that is a whole number of them is one in floating point, too."""

Matrix = NDArray[np.float32]


class Seam(NamedTuple):
    """One end of a tile, where a neighbour begins; both are (cells,)."""

    look: Matrix
    """The share of each cell in the strip that is compared with the neighbour's; sums to 1."""
    fade: Matrix
    """1 at the seam, and falls to 0 towards the middle of the tile."""


class Stretch(NamedTuple):
    """One side of a tile, cut into equal cells of about CELL pixels."""

    cells: int
    seen: slice
    """The cells of the reduced frame that the tile lies in."""
    share: Matrix
    """(cells, seen cells of the frame): how much of each cell of the tile each of these covers; rows sum to 1."""
    smooth: Matrix
    """(cells, cells): smooths values of the cells."""
    spread: Matrix
    """(pixels, cells): a curve through values of the cells, at each pixel."""
    before: Seam
    """The seam with the previous tile, or where one would be."""
    after: Seam
    """The same of the next tile."""

    def curve(self, axis: Axis, span: Span, index: int) -> Matrix:
        """Return (pixels of `span`, cells): the curve of tile `index` times its share in each of these pixels."""
        start = axis.starts[index]
        return self.spread[span.start - start : span.stop - start] * axis.weights(span, index)[:, np.newaxis]


def stretches(axis: Axis, frame_cells: int, sigma_cells: float) -> list[Stretch]:
    """Return the stretch of each tile along an axis whose reduced frame has `frame_cells` cells.

    `sigma_cells` is how far values are smoothed, in cells of the frame.
    """
    size = axis.length / frame_cells
    return [_stretch(axis, index, size, sigma_cells * size) for index in range(len(axis.starts))]


def _stretch(axis: Axis, index: int, size: float, sigma: float) -> Stretch:
    start = axis.starts[index]
    pixels = min(axis.side, axis.length - start)
    cells = max(1, round(pixels / CELL))
    edges = start + np.arange(cells + 1) * (pixels / cells)
    first, last = int(start / size), int(np.ceil((start + pixels) / size - ROUNDING))
    share = _common(edges, np.arange(first, last + 1) * size) * (cells / pixels)
    centres = (edges[1:] + edges[:-1]) / 2
    return Stretch(
        cells,
        slice(first, last),
        share.astype(np.float32),
        _local_line(centres, centres, max(sigma, CELL)).astype(np.float32),
        _local_line(start + np.arange(pixels) + 0.5, centres, CELL).astype(np.float32),
        *(_seam(axis, near, edges) for near in (index - 1, index)),
    )


def _seam(axis: Axis, index: int, edges: NDArray[np.floating]) -> Seam:
    """Return one end of a tile with these edges of cells: at the seam of the tiles `index` and `index + 1`."""
    none = np.zeros(len(edges) - 1, np.float32)
    if not 0 <= index < len(axis.starts) - 1:
        return Seam(none, none)
    start, following = axis.starts[index : index + 2]
    middle, reach = (following + start + axis.side) / 2, max(axis.feather / 2, CELL)
    look = _common(edges, np.array([middle - reach, middle + reach]))[:, 0]
    fade = np.maximum(0, 1 - np.abs((edges[1:] + edges[:-1]) / 2 - middle) / ((following - start) / 2))
    return Seam((look / look.sum()).astype(np.float32), fade.astype(np.float32))


def _common(edges: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the pixels that each stretch between `edges` has in common with each between `others`."""
    common = np.minimum(edges[1:, None], others[1:]) - np.maximum(edges[:-1, None], others[:-1])
    return np.asarray(np.maximum(common, 0.0), np.float64)


def _local_line(at: NDArray[np.floating], centres: NDArray[np.floating], sigma: float) -> NDArray[np.float64]:
    """Return the weights (positions, centres) of local linear regression under a Gaussian window.

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
