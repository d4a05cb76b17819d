"""JPEG markers: iteration over the segments of a file (ITU-T T.81, annex B)."""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

SOI, EOI, SOS, DHT, DQT, DRI, DAC, COM = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD, 0xCC, 0xFE
APP0, APP1, APP2, APP14 = 0xE0, 0xE1, 0xE2, 0xEE
SOF = frozenset({*range(0xC0, 0xD0)} - {DHT, 0xC8, DAC})
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})

START, END = bytes((0xFF, SOI)), bytes((0xFF, EOI))
"""The first and the last bytes of a picture."""

# The next marker is found as libjpeg finds it: after other data, stuffed bytes, fill bytes and markers without a length
# (TEM, RST0 to RST7).
_MARKERS = frozenset(range(256)) - {0x00, 0x01, *range(0xD0, 0xD8), 0xFF}
_MARKER = re.compile(b"\xff[%b]" % re.escape(bytes(_MARKERS)))
_IS_MARKER = np.isin(np.arange(256), list(_MARKERS))
_WITHOUT_LENGTH = frozenset({SOI, EOI})
# A profile takes up to 255 segments, the XMP of a panorama about a hundred.
MAX_SEGMENTS = 4096
# A regular expression is searched for under the interpreter lock: faster in few bytes, and left to NumPy in more.
_FEW_BYTES = 4 * 1024
_SEARCHED_AT_ONCE = 256 * 1024


class Segment(NamedTuple):
    """A marker with its parameters; the coded data of a scan follows its segment."""

    marker: int
    start: int
    """The offset of the marker."""
    end: int
    """The offset after the parameters."""


class Frame(NamedTuple):
    """The content of a frame header."""

    precision: int
    height: int
    width: int
    components: tuple[int, ...]
    """The identifiers of the components."""


def walk(data: bytes, at: int = 2) -> Iterator[Segment]:
    """Yield the segments from offset `at` up to and including the end marker or the start of another image.

    Also stops at the end of the data, at a segment that exceeds it, and after more segments than any photo has.
    """
    size = len(data)
    for _ in range(MAX_SEGMENTS):
        # Segments follow one another at once, and coded data follows the header of a scan.
        is_here = at + 1 < size and data[at] == 0xFF and data[at + 1] in _MARKERS
        start = at if is_here else _next_marker(data, at)
        if start is None:
            return
        marker = data[start + 1]
        if marker in _WITHOUT_LENGTH:
            yield Segment(marker, start, start + 2)
            return
        if start + 4 > size:
            return
        at = start + 2 + (data[start + 2] << 8 | data[start + 3])
        if not start + 4 <= at <= size:
            return
        yield Segment(marker, start, at)


def segment_bytes(marker: int, body: bytes) -> bytes:
    """Frame the body of a segment, of at most 65533 bytes, with its marker and length."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def frame(data: bytes, segment: Segment) -> Frame | None:
    """Read a frame header; None if it is cut short."""
    body = data[segment.start + 4 : segment.end]
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        return None
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    return Frame(body[0], height, width, tuple(body[6 : 6 + 3 * body[5] : 3]))


def _next_marker(data: bytes, at: int) -> int | None:
    if found := _MARKER.search(data, at, at + _FEW_BYTES):
        return found.start()
    at += _FEW_BYTES - 1  # a marker's two bytes may be split between pieces
    while at + 1 < len(data):
        piece = np.frombuffer(data, np.uint8, min(_SEARCHED_AT_ONCE, len(data) - at), at)
        (starts,) = (piece[:-1] == 0xFF).nonzero()
        hits = _IS_MARKER[piece[starts + 1]]
        if hits.any():
            return at + int(starts[hits.argmax()])
        at += _SEARCHED_AT_ONCE - 1
    return None
