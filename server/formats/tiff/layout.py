"""TIFF layout: the strips or tiles that a directory cuts its picture into, within bounds that the picture sets."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from server.errors import UndecodableImage, UnsupportedImage
from server.formats.tiff import tags
from server.imaging.tiff_directory import Directory

_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4"}
_SEPARATE = 2
# Pyramids cut every level by one tile, so the small ones are a part of theirs.
_USUAL_TILE = 1024
_MOST_PADDING = 2048  # of one tile that is larger than the whole picture
_LEAST_TILE = 16  # TIFF 6.0, section 15


class Layout(NamedTuple):
    """How a picture is cut: the size of a piece in pixels, and the number of them."""

    height: int
    width: int
    pieces: int
    offsets: int
    """The tag that holds where the pieces are."""
    sizes: int

    @property
    def pixels(self) -> int:
        """What the decoder makes of the picture, with the edges that are cut off; planes that are apart count each."""
        return self.height * self.width * self.pieces


def layout_of(directory: Directory) -> Layout:
    """The layout that a directory states; raises UndecodableImage and UnsupportedImage.

    A tile may be little larger than the picture, because it is decoded whole. Entries for more pieces than the
    picture has are never looked at.
    """
    width, height, channels = (
        directory.integer(tag, default) for tag, default in ((tags.WIDTH, 0), (tags.HEIGHT, 0), (tags.CHANNELS, 1))
    )
    planes = channels if directory.integer(tags.PLANAR, 1) == _SEPARATE else 1
    if width < 1 or height < 1:
        raise UndecodableImage(f"The TIFF says it is {width} x {height} pixels.")
    entries = directory.entries
    if not {tags.TILE_WIDTH, tags.TILE_HEIGHT, tags.TILE_OFFSETS}.isdisjoint(entries):
        if tags.STRIP_OFFSETS in entries:
            raise UndecodableImage("The TIFF says that it is cut into strips and into tiles.")
        across, down = directory.integer(tags.TILE_WIDTH, 0), directory.integer(tags.TILE_HEIGHT, 0)
        _check_tile(across, down, width, height)
        count = -(-width // across) * -(-height // down) * planes
        return Layout(down, across, count, tags.TILE_OFFSETS, tags.TILE_BYTES)
    rows = min(height, directory.integer(tags.ROWS_PER_STRIP, height)) or height  # "all" is often written as 2**32 - 1
    return Layout(rows, width, -(-height // rows) * planes, tags.STRIP_OFFSETS, tags.STRIP_BYTES)


def check_places(layout: Layout, directory: Directory, size: int) -> int:
    """The bytes of all pieces; raises UndecodableImage if one is missing, or outside a file of `size` bytes.

    Nor may they have more bytes than the file: pieces that overlap make a large picture of a small one.
    """
    if layout.pieces < 1:
        raise UndecodableImage("The TIFF says that its pixels have no channels.")
    offsets, sizes = (_values(directory, tag, layout.pieces) for tag in (layout.offsets, layout.sizes))
    count = min(len(offsets), len(sizes))
    if count < layout.pieces:
        raise UndecodableImage(
            f"The TIFF is damaged: it tells the place of {count} of {layout.pieces} strips or tiles."
        )
    if (offsets + sizes).max() > size:
        raise UndecodableImage("The TIFF is cut off: its pixels lie outside the file.")
    held = int(sizes.sum())
    if held > size:
        raise UndecodableImage("The TIFF is damaged: its strips or tiles overlap.")
    return held


def places(layout: Layout, directory: Directory) -> Iterator[slice]:
    """Where each piece stands in the file."""
    offsets, sizes = (_values(directory, tag, layout.pieces).tolist() for tag in (layout.offsets, layout.sizes))
    return (slice(offset, offset + size) for offset, size in zip(offsets, sizes, strict=True))


def _values(directory: Directory, tag: int, most: int) -> NDArray[np.uint64]:
    # A file can hold millions, which Python's integers would make a gigabyte of.
    entry = directory.entries.get(tag)
    if entry is None or entry.kind not in _INTEGERS:
        return np.empty(0, np.uint64)
    kind = np.dtype(directory.order + _INTEGERS[entry.kind])
    return np.frombuffer(entry.raw, kind, min(most, entry.count)).astype(np.uint64)


def _check_tile(across: int, down: int, width: int, height: int) -> None:
    for tile, side in ((across, width), (down, height)):
        if tile < min(_LEAST_TILE, side):
            raise UndecodableImage(f"The TIFF says that its tiles are {across} x {down} pixels.")
        if tile > max(_USUAL_TILE, side + min(side, _MOST_PADDING)):
            raise UnsupportedImage(
                f"The TIFF has {width} x {height} pixels in tiles of {across} x {down}: a tile may have {_USUAL_TILE} "
                f"pixels a side, or as many as the image and as much again, up to {_MOST_PADDING} more."
            )
