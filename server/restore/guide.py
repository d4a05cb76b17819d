"""Tone guide for tiled photos: a run on the downscaled whole image corrects tiles whose tones disagree."""

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import cv2
import numpy as np

from server.backends.base import Aux, Pixels
from server.imaging import tiling
from server.imaging.assembly import Samples
from server.imaging.tiling import Grid, Span, Tile
from server.restore.contrast import FULL, add, averaged, match_contrast, reduced
from server.restore.stretch import Matrix, Seam, Stretch, stretches

SIGMA_CELLS = 4.0
"""How far tone is smoothed, in cells of the reduced frame: docs/large-photos.md has the table it was chosen from."""
DISAGREEMENT = 2.5 / 255
"""RMS disagreement at the seams above which tiles mostly take the tone of the whole image, and below keep their own."""
STEEPNESS = 4
"""Steepness of that transition: at half the disagreement the whole image counts 6 %, at twice 94 %."""
MOST_SQUEEZE = 2.0
"""Largest ratio of the two sides' downscaling factors; more would stretch noise into streaks."""
LEAST_SHARE = 0.05
"""Share of the whole image's tone from which on the photo takes its local contrast too."""

# OpenCV multiplies smaller matrices without OpenBLAS.
_LARGE = 256
_workspace = threading.Lock()

Crop = Callable[[slice, slice], Pixels]
"""Returns a region of rows and columns of a photo as (3, height, width) pixels."""
Index = tuple[int, int]
"""Row and column of a tile in its grid."""
Cells = dict[Index, Matrix]
"""For each tile, (3, cells down, cells across)."""


class Meeting(NamedTuple):
    """Two neighbouring tiles at their seam."""

    one: Index
    other: Index
    end: Seam
    """Seam end of the first tile."""
    begin: Seam
    """Seam end of the second tile."""
    along: Matrix
    """(cells, cells): smooths values along the seam."""
    is_stacked: bool
    """Whether the second tile is below the first, rather than beside it."""

    def view(self, cells: Matrix) -> Matrix:
        """Orient a tile's cells so that the seam runs along their second axis: (3, along, across)."""
        return cells.transpose(0, 2, 1) if self.is_stacked else cells


class Guide:
    """Corrects the tones of a photo's tiles to match.

    A tile's tone depends on what it shows, so neighbours may differ. The whole image is downscaled to the shape of a
    tile by area averaging and runs as one more tile. The change made by each tile is recorded in cells of a few pixels.
    Once all tiles are recorded, their overlaps show how much they disagree: the more they do, the more the low
    frequencies of the downscaled image's output replace theirs. The difference that remains at a seam is spread over
    half a tile on both sides. The result is one smooth correction per tile, blended like the tiles and added to the
    assembled photo, so the order of tiles does not matter and no second copy of the photo is made. Where tiles
    disagree, local contrast follows the downscaled image's output as well.
    """

    def __init__(self, grid: Grid, sigma_cells: float = SIGMA_CELLS, disagreement: float = DISAGREEMENT) -> None:
        self.tile = _reduced(grid)
        """Where the reduced frame lies in its run, whose shape is that of every tile."""
        self.aux: Aux | None = None
        """Those of the whole frame, once it has run."""
        self._grid = grid
        self._sigma_cells = sigma_cells
        self._disagreement = disagreement
        self._frame: Pixels
        self._change: Pixels
        self._changes: Cells = {}

    def reduce(self, crop: Crop) -> Pixels:
        """Return the whole image downscaled and padded like a tile: (3, padded_height, padded_width)."""
        self._rows = stretches(self._grid.vertical, self.tile.height, self._sigma_cells)
        self._columns = stretches(self._grid.horizontal, self.tile.width, self._sigma_cells)
        size, width = (self.tile.height, self.tile.width), self._grid.width
        self._frame = reduced(lambda rows: crop(rows, slice(0, width)), self._grid.height, size)
        return tiling.pad(self._frame, self.tile)

    def take(self, restored: Pixels, aux: Aux | None = None) -> None:
        """Take the answer to the reduced frame, before the first tile is noted."""
        self.aux = aux
        self._change = np.clip(tiling.crop(restored, self.tile), 0, 1) - self._frame

    def note(self, tile: Tile, pixels: Pixels, restored: Pixels) -> None:
        """Record the change of a tile from `pixels` to `restored`; thread-safe."""
        index = self._grid.vertical.starts.index(tile.top), self._grid.horizontal.starts.index(tile.left)
        shape = self._rows[index[0]].cells, self._columns[index[1]].cells
        planes = zip(tiling.crop(pixels, tile), tiling.crop(restored, tile), strict=True)
        self._changes[index] = np.stack([averaged(np.clip(after, 0, 1) - before, shape) for before, after in planes])

    def settle(self, photo: Samples | Pixels, strength: float = 1.0) -> None:
        """Correct the assembled photo (3 or 1, H, W) in place. Call once, after every tile is recorded.

        Integer types use their full range. The correction is scaled by `strength`, like the restoration.
        """
        tones, share = self._tones()
        self._changes.clear()
        full = np.float32(strength * FULL[photo.dtype])
        for rows, columns in itertools.product(self._grid.vertical.spans, self._grid.horizontal.spans):
            tone = self._blended(tones, rows, columns) * full
            if len(photo) == 1:
                tone = tone.mean(axis=0, keepdims=True)
            add(photo[:, rows.start : rows.stop, columns.start : columns.stop], tone)
        if share >= LEAST_SHARE:
            match_contrast(photo, self._frame + np.float32(strength) * self._change, float(share))

    def _tones(self) -> tuple[Cells, np.float32]:
        """Return the correction of each tile in its cells, and the share of the whole image's tone in it."""
        changes = dict(sorted(self._changes.items()))
        meetings = list(_meetings(self._rows, self._columns))
        squares = [np.square(_step(meeting, changes)).ravel() for meeting in meetings]
        certain = (np.sqrt(np.concatenate(squares).mean()) / self._disagreement) ** STEEPNESS
        share = np.float32(certain / (certain + 1))
        tones = {index: share * self._missing(index, change) for index, change in changes.items()}
        for meeting in meetings:  # in grid order, because floating-point sums depend on it
            now = {index: changes[index] + tones[index] for index in (meeting.one, meeting.other)}
            half = _step(meeting, now)[:, :, np.newaxis] / 2
            meeting.view(tones[meeting.one])[:] += half * meeting.end.fade
            meeting.view(tones[meeting.other])[:] -= half * meeting.begin.fade
        return tones, share

    def _missing(self, index: Index, change: Matrix) -> Matrix:
        """Return the low frequencies of the whole image's change minus the tile's."""
        rows, columns = self._rows[index[0]], self._columns[index[1]]
        missing = []
        for frame, plane in zip(self._change, change, strict=True):
            wanted = _product(rows.share, frame[rows.seen, columns.seen], columns.share)
            missing.append(_product(rows.smooth, wanted - plane, columns.smooth))
        return np.stack(missing)

    def _blended(self, tones: Cells, rows: Span, columns: Span) -> Matrix:
        """Return the correction (3, height, width) of pixels covered by the same tiles, blended like the tiles."""
        vertical, horizontal = self._grid.vertical, self._grid.horizontal
        blended = np.zeros((3, rows.stop - rows.start, columns.stop - columns.start), np.float32)
        for row, column in itertools.product(rows.tiles, columns.tiles):
            down = self._rows[row].curve(vertical, rows, row)
            across = self._columns[column].curve(horizontal, columns, column)
            for plane, tone in zip(blended, tones[row, column], strict=True):
                plane += _product(down, tone, across)
        return blended


def _meetings(rows: list[Stretch], columns: list[Stretch]) -> Iterator[Meeting]:
    """Yield all pairs of neighbours, horizontal pairs first."""
    for row, along in enumerate(rows):
        for column, (one, other) in enumerate(itertools.pairwise(columns)):
            yield Meeting((row, column), (row, column + 1), one.after, other.before, along.smooth, False)
    for row, (one, other) in enumerate(itertools.pairwise(rows)):
        for column, along in enumerate(columns):
            yield Meeting((row, column), (row + 1, column), one.after, other.before, along.smooth, True)


def _step(meeting: Meeting, changes: Cells) -> Matrix:
    """Return the second tile's change minus the first's in their overlap, (3, cells along the seam), smoothed."""
    one = np.einsum("pas,s->pa", meeting.view(changes[meeting.one]), meeting.end.look)
    other = np.einsum("pas,s->pa", meeting.view(changes[meeting.other]), meeting.begin.look)
    return np.asarray(np.einsum("pa,ba->pb", other - one, meeting.along), np.float32)


def _reduced(grid: Grid) -> Tile:
    rows, columns = grid.tile_shape
    tall, wide = max(1.0, grid.height / rows), max(1.0, grid.width / columns)
    least = max(tall, wide) / MOST_SQUEEZE
    height, width = round(grid.height / max(tall, least)), round(grid.width / max(wide, least))
    return Tile(0, 0, max(1, height), max(1, width), rows, columns)


def _product(rows: Matrix, values: Matrix, columns: Matrix) -> Matrix:
    """Return `rows @ values @ columns.T`, computed in the calling thread; NumPy might start a thread per core."""
    nothing = np.empty(0, np.float32)
    values = np.ascontiguousarray(values)
    with _workspace:
        narrow = cv2.gemm(rows, values, 1.0, nothing, 0.0)
        return np.asarray(cv2.gemm(narrow, columns, 1.0, nothing, 0.0, flags=cv2.GEMM_2_T), np.float32)


def reserve_workspace() -> None:
    """Make OpenBLAS allocate its workspace early, because it crashes the process if that fails later.

    OpenBLAS in OpenCV allocates a workspace at the first product of this size without checking the result, and reuses
    it. Two simultaneous products would need two.
    """
    large = np.zeros((_LARGE, _LARGE), np.float32)
    _product(large, large, large)
