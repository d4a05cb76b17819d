"""Dimensions: the height and width that the first bytes of an image file tell."""

import struct

# SOF0 to SOF15 without DHT (C4), JPG (C8) and DAC (CC), which share the range: ITU-T T.81, table B.1.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_MOST_SEGMENTS = 1000  # a photo has dozens; a hostile file would keep the event loop busy
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
    at = 2
    for _ in range(_MOST_SEGMENTS):
        lead, marker = struct.unpack_from(">BB", start, at)
        if lead != 0xFF or marker == _START_OF_SCAN:
            return None
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        length, _, height, width = struct.unpack_from(">HBHH", start, at + 2)
        if marker in _START_OF_FRAME:
            return height, width
        at += 2 + max(2, length)
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
