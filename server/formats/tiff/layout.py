"""TIFF layout: strips or tiles of a picture, checked against the size of the picture and of the file."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.errors import UndecodableImage, UnsupportedImage
from server.formats.tiff import tags
from server.imaging.tiff_directory import Directory

_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4"}
_SEPARATE = 2
# Pyramids use one tile size for all levels, so tiles of this size may exceed a small picture.
_USUAL_TILE = 1024
_MAX_PADDING = 2048  # pixels by which one tile may exceed the picture
_MIN_TILE = 16  # TIFF 6.0, section 15


class Layout(NamedTuple):
    """Division of a picture into pieces (strips or tiles): their size in pixels, and their number."""

    height: int
    width: int
    pieces: int
    offsets: int
    """The tag with the offsets of the pieces."""
    sizes: int
    """The tag with their lengths in bytes."""

    @property
    def pixels(self) -> int:
        """Decoded pixels, including padding; separate planes are counted individually."""
        return self.height * self.width * self.pieces


def layout_of(directory: Directory) -> Layout:
    """Read the layout from a directory; raises UndecodableImage and UnsupportedImage.

    Tiles much larger than the picture are refused, because a tile is decoded whole. Entries for more pieces than the
    picture has are ignored.
    """
    width, height, channels = (
        directory.integer(tag, default) for tag, default in ((tags.WIDTH, 0), (tags.HEIGHT, 0), (tags.CHANNELS, 1))
    )
    planes = channels if directory.integer(tags.PLANAR, 1) == _SEPARATE else 1
    if width < 1 or height < 1:
        raise UndecodableImage(f"The TIFF states a size of {width} x {height} pixels.")
    entries = directory.entries
    if not {tags.TILE_WIDTH, tags.TILE_HEIGHT, tags.TILE_OFFSETS}.isdisjoint(entries):
        if tags.STRIP_OFFSETS in entries:
            raise UndecodableImage("The TIFF states both strips and tiles.")
        across, down = directory.integer(tags.TILE_WIDTH, 0), directory.integer(tags.TILE_HEIGHT, 0)
        _check_tile(across, down, width, height)
        count = -(-width // across) * -(-height // down) * planes
        return Layout(down, across, count, tags.TILE_OFFSETS, tags.TILE_BYTES)
    rows = min(height, directory.integer(tags.ROWS_PER_STRIP, height)) or height  # "all" is often written as 2**32 - 1
    return Layout(rows, width, -(-height // rows) * planes, tags.STRIP_OFFSETS, tags.STRIP_BYTES)


def check_extents(layout: Layout, directory: Directory, size: int) -> int:
    """Sum the bytes of all pieces; raises UndecodableImage if one is missing, or outside a file of `size` bytes.

    The sum may not exceed the file: overlapping pieces would expand a small file to a large picture.
    """
    if layout.pieces < 1:
        raise UndecodableImage("The TIFF states that its pixels have no channels.")
    offsets, sizes = (_values(directory, tag, layout.pieces) for tag in (layout.offsets, layout.sizes))
    count = min(len(offsets), len(sizes))
    if count < layout.pieces:
        raise UndecodableImage(f"The TIFF is damaged: it has offsets for {count} of {layout.pieces} strips or tiles.")
    if (offsets + sizes).max() > size:
        raise UndecodableImage("The TIFF is cut off: its pixels are outside the file.")
    held = int(sizes.sum())
    if held > size:
        raise UndecodableImage("The TIFF is damaged: its strips or tiles overlap.")
    return held


def extents(layout: Layout, directory: Directory) -> Iterator[slice]:
    """Yield the position of each piece in the file."""
    offsets, sizes = (_values(directory, tag, layout.pieces).tolist() for tag in (layout.offsets, layout.sizes))
    return (slice(offset, offset + size) for offset, size in zip(offsets, sizes, strict=True))


def _values(directory: Directory, tag: int, limit: int) -> NDArray[np.uint64]:
    # A file can have millions of values, which would take a gigabyte as Python integers.
    entry = directory.entries.get(tag)
    if entry is None or entry.kind not in _INTEGERS:
        return np.empty(0, np.uint64)
    kind = np.dtype(directory.order + _INTEGERS[entry.kind])
    return np.frombuffer(entry.raw, kind, min(limit, entry.count)).astype(np.uint64)


def _check_tile(across: int, down: int, width: int, height: int) -> None:
    for tile, side in ((across, width), (down, height)):
        if tile < min(_MIN_TILE, side):
            raise UndecodableImage(f"The TIFF states a tile size of {across} x {down} pixels.")
        if tile > max(_USUAL_TILE, side + min(side, _MAX_PADDING)):
            raise UnsupportedImage(
                f"The TIFF has {width} x {height} pixels in tiles of {across} x {down}: a tile may have {_USUAL_TILE} "
                f"pixels a side, or at most twice the side of the image, up to {_MAX_PADDING} pixels more than it."
            )
