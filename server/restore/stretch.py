"""Cells along one side of a tile, with interpolation between them and the seams at both ends."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.imaging.tiling import Axis, Span

CELL = 8
"""Approximate side of a cell in pixels; tone is represented by one value per cell."""
ROUNDING = 1e-6
"""Tolerance, in cells, for edges that are whole numbers of cells up to floating-point error."""

Matrix = NDArray[np.float32]


class Seam(NamedTuple):
    """End of a tile next to a neighbour; both arrays are (cells,)."""

    look: Matrix
    """Weight of each cell in the overlap that is compared with the neighbour's; sums to 1."""
    fade: Matrix
    """1 at the seam, decreasing to 0 towards the middle of the tile."""


class Stretch(NamedTuple):
    """One side of a tile, cut into equal cells of about CELL pixels."""

    cells: int
    seen: slice
    """Cells of the downscaled image that the tile covers."""
    share: Matrix
    """(cells, seen cells): fraction of each tile cell covered by each cell of the downscaled image; rows sum to 1."""
    smooth: Matrix
    """(cells, cells): smooths cell values."""
    spread: Matrix
    """(pixels, cells): interpolates cell values at each pixel."""
    before: Seam
    """Seam with the previous tile, or the place of one."""
    after: Seam
    """Seam with the next tile, or the place of one."""

    def curve(self, axis: Axis, span: Span, index: int) -> Matrix:
        """Return (pixels of `span`, cells): the interpolation of tile `index` times its blending weights in `span`."""
        start = axis.starts[index]
        return self.spread[span.start - start : span.stop - start] * axis.weights(span, index)[:, np.newaxis]


def stretches(axis: Axis, frame_cells: int, sigma_cells: float) -> list[Stretch]:
    """Return the stretch of each tile along an axis whose downscaled image has `frame_cells` cells.

    `sigma_cells` is the smoothing width, in cells of the downscaled image.
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
    """Return the end of a tile with these cell edges at the seam of tiles `index` and `index + 1`."""
    none = np.zeros(len(edges) - 1, np.float32)
    if not 0 <= index < len(axis.starts) - 1:
        return Seam(none, none)
    start, following = axis.starts[index : index + 2]
    middle, reach = (following + start + axis.side) / 2, max(axis.feather / 2, CELL)
    look = _common(edges, np.array([middle - reach, middle + reach]))[:, 0]
    fade = np.maximum(0, 1 - np.abs((edges[1:] + edges[:-1]) / 2 - middle) / ((following - start) / 2))
    return Seam((look / look.sum()).astype(np.float32), fade.astype(np.float32))


def _common(edges: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the overlap in pixels of each interval between `edges` with each between `others`."""
    common = np.minimum(edges[1:, None], others[1:]) - np.maximum(edges[:-1, None], others[:-1])
    return np.asarray(np.maximum(common, 0.0), np.float64)


def _local_line(at: NDArray[np.floating], centres: NDArray[np.floating], sigma: float) -> NDArray[np.float64]:
    """Return the weights (positions, centres) of local linear regression under a Gaussian window.

    Unlike a plain blur, it follows a slope up to the border of a tile, so that neighbours agree there (Fan and Gijbels,
    Local Polynomial Modelling, 1996, chapter 3).
    """
    distance = centres - at[:, None]
    window: NDArray[np.float64] = np.exp(-0.5 * np.square(distance / sigma))
    if len(centres) == 1:
        return np.ones_like(window)
    none, first, second = ((window * distance**power).sum(axis=1, keepdims=True) for power in range(3))
    weights: NDArray[np.float64] = window * (second - distance * first) / (none * second - first**2)
    return weights
