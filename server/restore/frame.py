"""The Frame: one image of a tensor on its way through the network, tile by tile."""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from server.backends.base import Pixels
from server.imaging import tiling
from server.imaging.assembly import Assembly
from server.imaging.strength import blend
from server.imaging.tiling import Grid, Tile
from server.restore.guide import Guide

Frames = NDArray[np.uint8] | NDArray[np.float32]
"""RGB, (N, 3, H, W) or one image of it: uint8, or float32 in [0, 1]."""

_BYTE = np.float32(1 / 255)


class Frame:
    """The counterpart of Photo for tensors: cuts (3, H, W) pixels into tiles and puts the restored tiles together.

    `cut` and `add` may be called from several threads at once. The pixels may be a view of a request's bytes: tiles
    are copies.
    """

    def __init__(self, pixels: Frames, grid: Grid, strength: float = 1.0) -> None:
        self.guide = Guide(grid) if grid.guided else None
        """Gives the tiles one tone: it runs before the first is added."""
        self._pixels = pixels
        self._strength = strength
        self._assembly = Assembly(grid, pixels.dtype)

    def crop(self, rows: slice, columns: slice) -> Pixels:
        """Return some rows and columns as network input: (3, height, width)."""
        part = self._pixels[:, rows, columns]
        scale = _BYTE if part.dtype == np.uint8 else np.float32(1)
        return np.multiply(part, scale, dtype=np.float32)

    def cut(self, tile: Tile) -> Pixels:
        """Return a padded tile as network input: (3, padded_height, padded_width)."""
        return tiling.pad(self.crop(tile.rows, tile.columns), tile)

    def add(self, tile: Tile, pixels: Pixels, restored: Pixels, aux: object = None) -> None:
        """Add a tile that was cut as `pixels` and restored as `restored`; `aux` is ignored: there is no report."""
        if self.guide is not None:
            self.guide.note(tile, pixels, restored)
        is_last = self._assembly.add(tile, blend(pixels, restored, self._strength))
        if is_last and self.guide is not None:
            self.guide.settle(self._assembly.pixels, self._strength)

    @property
    def restored(self) -> Frames:
        """(3, H, W) of the type of the input, once all tiles have come; float32 is clipped to [0, 1]."""
        return cast(Frames, self._assembly.pixels)
