"""TIFF writer: deflated strips (TIFF 6.0, sections 8, 14 and 18)."""

import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from isal import isal_zlib

from server.formats.base import Samples
from server.formats.samples import interleaved
from server.formats.tiff import tags
from server.imaging import exif, tiff_directory
from server.imaging.metadata import Metadata
from server.imaging.tiff_directory import LONG, SHORT, BrokenDirectoryError, Entry, integer_entry

_DEFLATE, _HORIZONTAL_PREDICTOR, _UNASSOCIATED_ALPHA = 8, 2, 2
_BYTES_KIND, _UNDEFINED_KIND = 1, 7
_BLACK_IS_ZERO, _RGB = 1, 2
_FASTEST = 1
_STRIP_BYTES = 2**20  # readers inflate a whole strip at once


def write_tiff(planes: Sequence[Samples], metadata: Metadata) -> bytes:
    """Encode 1 to 4 planes (H, W): grey, grey and alpha, RGB, RGBA; uint8 or uint16 sets the bit depth."""
    (height, width), channels, itemsize = planes[0].shape, len(planes), planes[0].dtype.itemsize
    order, described, below = "<", list[Entry](), (list[Entry](), list[Entry]())
    if metadata.exif is not None:
        with suppress(BrokenDirectoryError):  # malformed EXIF is left out
            order, described, *rest = exif.to_tiff(metadata.exif)
            below = (rest[0], rest[1])
    rows = max(1, _STRIP_BYTES // (width * channels * itemsize))
    strips = [_strip([plane[top : top + rows] for plane in planes], order) for top in range(0, height, rows)]
    offsets = [8 + sum(map(len, strips[:number])) for number in range(len(strips))]
    body = b"".join(strips)
    body += b"\0" * (len(body) % 2)
    layout = [
        integer_entry(order, tags.WIDTH, LONG, width),
        integer_entry(order, tags.HEIGHT, LONG, height),
        integer_entry(order, tags.BITS, SHORT, *[itemsize * 8] * channels),
        integer_entry(order, tags.COMPRESSION, SHORT, _DEFLATE),
        integer_entry(order, tags.PHOTOMETRIC, SHORT, _RGB if channels > 2 else _BLACK_IS_ZERO),
        integer_entry(order, tags.STRIP_OFFSETS, LONG, *offsets),
        integer_entry(order, tags.CHANNELS, SHORT, channels),
        integer_entry(order, tags.ROWS_PER_STRIP, LONG, min(rows, height)),
        integer_entry(order, tags.STRIP_BYTES, LONG, *map(len, strips)),
        integer_entry(order, tags.PLANAR, SHORT, 1),
        integer_entry(order, tags.PREDICTOR, SHORT, _HORIZONTAL_PREDICTOR),
    ]
    if channels in (2, 4):
        layout.append(integer_entry(order, tags.EXTRA_SAMPLES, SHORT, _UNASSOCIATED_ALPHA))
    for tag, kind, raw in (
        (tags.XMP, _BYTES_KIND, metadata.xmp),
        (tags.ICC_PROFILE, _UNDEFINED_KIND, metadata.icc_profile),
    ):
        if raw is not None:
            layout.append(Entry(tag, kind, len(raw), raw))
    directories, first = exif.append_directories(order, [*layout, *described], below, 8 + len(body))
    magic = next(magic for magic, its in tiff_directory.HEADERS.items() if its == order)
    return b"".join((magic, struct.pack(f"{order}I", first), body, directories))


def _strip(planes: Sequence[Samples], order: str) -> bytes:
    # Applies the horizontal predictor: each sample minus its left neighbour.
    pixels = interleaved(planes)
    differences = pixels.copy()
    np.subtract(pixels[:, 1:], pixels[:, :-1], out=differences[:, 1:])
    byte_order: Any = order
    return isal_zlib.compress(np.ascontiguousarray(differences, differences.dtype.newbyteorder(byte_order)), _FASTEST)
