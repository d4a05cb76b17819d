"""JPEG markers: the one walk over a file's segments that every reader here shares (ITU-T T.81, annex B)."""

import re
from collections.abc import Iterator
from typing import NamedTuple

SOI, EOI, SOS, DHT, DQT, DRI, DAC, COM = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD, 0xCC, 0xFE
APP0, APP1, APP2, APP14 = 0xE0, 0xE1, 0xE2, 0xEE
SOF = frozenset({*range(0xC0, 0xD0)} - {DHT, 0xC8, DAC})
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})

# As libjpeg looks for it: what stands before it is skipped, and so are stuffed and fill bytes and the markers without
# a length, TEM (01) and RST0 to RST7, wherever they stand.
_MARKER = re.compile(rb"\xff[^\0\x01\xd0-\xd7\xff]")
# A profile takes up to 255 segments, a panorama's XMP some hundred.
_MOST_SEGMENTS = 4096
# The search holds the interpreter's lock, so a large file is searched in pieces.
_SEARCHED_AT_ONCE = 256 * 1024


class Segment(NamedTuple):
    """A marker with its parameters; the coded data of a scan lies between its segment and the next one."""

    marker: int
    start: int
    """Of the marker."""
    end: int


class Frame(NamedTuple):
    """What a frame header says."""

    precision: int
    height: int
    width: int
    components: tuple[int, ...]
    """Their identifiers."""


def walk(data: bytes, at: int = 2) -> Iterator[Segment]:
    """Yield the segments from `at` on, up to and with the end marker or the start of another image.

    Ends early where the data ends, or a segment is longer than the data, and after more segments than a photo has.
    """
    for _ in range(_MOST_SEGMENTS):
        start = _next_marker(data, at)
        if start is None:
            return
        marker = data[start + 1]
        if marker in (SOI, EOI):
            yield Segment(marker, start, start + 2)
            return
        at = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if at > len(data) or at < start + 4:
            return
        yield Segment(marker, start, at)


def frame(data: bytes, segment: Segment) -> Frame | None:
    """Read a frame header; None if it is cut short."""
    body = data[segment.start + 4 : segment.end]
    if len(body) < 6 or len(body) < 6 + 3 * body[5]:
        return None
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    return Frame(body[0], height, width, tuple(body[6 : 6 + 3 * body[5] : 3]))


def _next_marker(data: bytes, at: int) -> int | None:
    while at + 1 < len(data):
        if found := _MARKER.search(data, at, at + _SEARCHED_AT_ONCE):
            return found.start()
        at += _SEARCHED_AT_ONCE - 1  # the two bytes of a marker may stand on both sides of the cut
    return None
