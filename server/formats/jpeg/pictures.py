"""JPEG pictures: further pictures that follow the first one in a file (CIPA DC-007, Multi-Picture Format)."""

import struct
from collections.abc import Iterator

from server.formats.jpeg.markers import APP1, APP2, SOI, SOS, walk
from server.imaging.tiff_directory import BrokenDirectoryError, read_first
from server.imaging.xmp import parts_of

MPF_PREFIX = b"MPF\0"
XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
GAIN_MAP_PREFIX = b"urn:iso:std:iso:ts:21496:-1\0"

_ENTRIES = 0xB002
_ENTRY_BYTES = 16
# Phones write two or three.
_MOST = 8
_START = bytes((0xFF, SOI))


def parts_behind(data: bytes, index: bytes, base: int) -> frozenset[str]:
    """Return the parts (such as gain-map) that the pictures behind the first one state in their own metadata.

    iPhones state them nowhere else. `index` is the body of the segment that lists the offsets of the pictures, relative
    to `base`; invalid entries are ignored.
    """
    return frozenset().union(*(_own_parts(data, at) for at in _places(index, base) if data.startswith(_START, at)))


def _places(index: bytes, base: int) -> Iterator[int]:
    try:
        directory = read_first(index)
    except BrokenDirectoryError:
        return
    entry = directory.entries.get(_ENTRIES)
    raw = b"" if entry is None else entry.raw[: _MOST * _ENTRY_BYTES]
    for at in range(0, len(raw) - _ENTRY_BYTES + 1, _ENTRY_BYTES):
        if offset := struct.unpack_from(f"{directory.order}I", raw, at + 8)[0]:
            yield base + offset


def _own_parts(data: bytes, start: int) -> frozenset[str]:
    parts: frozenset[str] = frozenset()
    for segment in walk(data, start + 2):
        body = segment.start + 4
        if segment.marker == SOS:
            break
        if segment.marker == APP1 and data.startswith(XMP_PREFIX, body):
            parts |= parts_of(data[body + len(XMP_PREFIX) : segment.end])
        if segment.marker == APP2 and data.startswith(GAIN_MAP_PREFIX, body):
            parts |= {"gain-map"}
    return parts
