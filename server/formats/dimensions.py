"""Dimensions: the height and width that the first bytes of an image file tell."""

import struct

from server.formats import jpeg_markers

_LOSSLESS_WEBP, _LOSSY_WEBP_START = 0x2F, b"\x9d\x01\x2a"


def dimensions(name: str, start: bytes) -> tuple[int, int] | None:
    """(height, width) as a file of format `name` stores them, before orientation; None while `start` is too short.

    Nothing is checked and nothing is parsed twice: an upload can be refused by this, but only the header itself can
    say that it is sound. None too for what is broken, and for TIFF, whose directory may stand at the end.
    """
    try:
        return _READERS[name](start) if name in _READERS else None
    except struct.error:  # too short
        return None


def _png(start: bytes) -> tuple[int, int] | None:
    kind, width, height = struct.unpack_from(">4sII", start, 12)
    return (height, width) if kind == b"IHDR" else None


def _jpeg(start: bytes) -> tuple[int, int] | None:
    for segment in jpeg_markers.walk(start):
        if segment.marker in jpeg_markers.SOF:
            frame = jpeg_markers.frame(start, segment)
            return None if frame is None else (frame.height, frame.width)
        if segment.marker == jpeg_markers.SOS:
            break
    return None


def _webp(start: bytes) -> tuple[int, int] | None:
    (kind,) = struct.unpack_from("4s", start, 12)
    if kind == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", start, 24)
        return 1 + low_height + (high_height << 16), 1 + low_width + (high_width << 16)
    if kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", start, 20)
        return (1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)) if signature == _LOSSLESS_WEBP else None
    if kind == b"VP8 ":
        code, width, height = struct.unpack_from("<3sHH", start, 23)
        return (height & 0x3FFF, width & 0x3FFF) if code == _LOSSY_WEBP_START else None
    return None


def _bmp(start: bytes) -> tuple[int, int] | None:
    (size,) = struct.unpack_from("<I", start, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", start, 18)
    return abs(height), width  # a negative height: stored top down


_READERS = {"PNG": _png, "JPEG": _jpeg, "WebP": _webp, "BMP": _bmp}
