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
    """What a Photo is to a file: cuts (3, H, W) pixels by a grid and puts the restored tiles together.

    `cut` and `add` may be called from several threads at once. The pixels may be a view of a request's bytes: tiles
    are copies.
    """

    def __init__(self, pixels: Frames, grid: Grid, strength: float = 1.0) -> None:
        self.guide = Guide(grid) if grid.guided else None
        """Sets the tone of the tiles: it runs before the first is added."""
        self._pixels = pixels
        self._strength = strength
        self._assembly = Assembly(grid, pixels.dtype)

    def crop(self, rows: slice, columns: slice) -> Pixels:
        """Some rows and columns as the network sees them: (3, height, width)."""
        part = self._pixels[:, rows, columns]
        scale = _BYTE if part.dtype == np.uint8 else np.float32(1)
        return np.multiply(part, scale, dtype=np.float32)

    def cut(self, tile: Tile) -> Pixels:
        """The pixels of a tile as the network takes them: (3, padded_height, padded_width)."""
        return tiling.pad(self.crop(tile.rows, tile.columns), tile)

    def add(self, tile: Tile, pixels: Pixels, restored: Pixels, aux: object = None) -> None:
        """Take a tile that was cut as `pixels` and came back as `restored`; a tensor has no report for `aux`."""
        if self.guide is not None:
            restored = self.guide.correct(tile, pixels, restored)
        self._assembly.add(tile, blend(pixels, restored, self._strength))

    @property
    def restored(self) -> Frames:
        """(3, H, W) of the type of the input, once all tiles have come; float32 is clipped to [0, 1]."""
        return cast(Frames, self._assembly.pixels)
