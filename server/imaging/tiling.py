"""Tile: one network-shaped crop of an image and where it belongs."""

from dataclasses import dataclass

import numpy as np

from server.backends.base import Pixels


@dataclass(frozen=True)
class Tile:
    """The rows and columns of an image that one network run covers, padded up to the network's multiple."""

    top: int
    left: int
    height: int
    width: int
    padded_height: int
    padded_width: int

    @property
    def padded_pixels(self) -> int:
        """What the run holds, in pixels."""
        return self.padded_height * self.padded_width


def plan(height: int, width: int, multiple: int) -> list[Tile]:
    """Tiles that cover a height x width image, each side a multiple of `multiple`.

    One tile for now. It is padded before batching and never again, because the network's attention and prompts
    are sums over all pixels: any other padding changes every output pixel.
    """
    return [Tile(0, 0, height, width, _round_up(height, multiple), _round_up(width, multiple))]


def cut(pixels: Pixels, tile: Tile) -> Pixels:
    """Cut a tile out of (3, H, W) pixels and reflect-pad it at the bottom and right; works from 1 x 1 up."""
    crop = pixels[:, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
    below, beside = tile.padded_height - tile.height, tile.padded_width - tile.width
    if below == 0 and beside == 0:
        return np.ascontiguousarray(crop)
    # A side shorter than its padding is reflected repeatedly, a side of one pixel is repeated: numpy does both.
    return np.pad(crop, ((0, 0), (0, below), (0, beside)), mode="reflect")


def crop(restored: Pixels, tile: Tile) -> Pixels:
    """Take the padding off a restored (3, padded_height, padded_width) tile: a (3, height, width) view."""
    return restored[:, : tile.height, : tile.width]


def _round_up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple
