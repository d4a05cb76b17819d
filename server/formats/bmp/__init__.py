"""BMP: uncompressed pixels after a small header; read-only."""

import struct

from server.formats.base import Format, starts_with
from server.formats.bmp.reader import decode, read_header

_CORE_HEADER_BYTES = 12  # the oldest header, whose sides have 16 bits


def peek(start: bytes) -> tuple[int, int] | None:
    """Return (height, width) from the header that follows the file header."""
    (size,) = struct.unpack_from("<I", start, 14)
    width, height = struct.unpack_from("<HH" if size == _CORE_HEADER_BYTES else "<ii", start, 18)
    return abs(height), width  # a negative height means that rows are stored top down


FORMAT = Format(
    name="BMP",
    media_type="image/bmp",
    suffixes=(".bmp",),
    matches=starts_with(b"BM"),
    peek=peek,
    read_header=read_header,
    decode=decode,
)
