"""Data after the first picture of a JPEG: more pictures (CIPA DC-007, Multi-Picture Format) or a video."""

import re
import struct
from collections.abc import Iterator

from server.formats.jpeg.markers import APP1, APP2, END, SOS, START, walk
from server.imaging.tiff_directory import BrokenDirectoryError, read_first
from server.imaging.xmp import parts_of

MPF_PREFIX = b"MPF\0"
XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
GAIN_MAP_PREFIX = b"urn:iso:std:iso:ts:21496:-1\0"

_ENTRIES = 0xB002
_ENTRY_BYTES = 16
# Phones write two or three.
_MAX_PICTURES = 8
# The first box of an MP4 or QuickTime file (ISO/IEC 14496-12, section 4.3): type, brands and valid sizes.
_FTYP, _BRANDS = b"ftyp", re.compile(rb"[ -~]{4}.{4}([ -~]{4})*", re.DOTALL)
_FTYP_BYTES = range(16, 256, 4)
# Coded data contains the four bytes of the type by chance about once in 4 GB.
_MAX_CHANCES = 16
# A search holds the interpreter lock, so a large file is searched in pieces.
_SEARCHED_AT_ONCE = 256 * 1024


def parts_after(data: bytes, index: bytes, base: int) -> frozenset[str]:
    """Return the parts (such as gain-map) found in the metadata of the pictures after the first one.

    iPhones record them nowhere else. `index` is the body of the segment that lists the offsets of the pictures,
    relative to `base`; invalid entries are ignored.
    """
    return frozenset().union(*(_own_parts(data, at) for at in _offsets(index, base) if data.startswith(START, at)))


def has_video_after(data: bytes, at: int) -> bool:
    """Return whether an MP4 file follows offset `at`; several phone makers append one without metadata.

    A file that ends with a picture is not searched, which would take the time of a checksum.
    """
    if data.endswith(END):
        return False
    chances = 0
    while chances < _MAX_CHANCES and at < len(data):
        found = data.find(_FTYP, at, at + _SEARCHED_AT_ONCE)
        if found < 0:
            at += _SEARCHED_AT_ONCE - len(_FTYP) + 1
            continue
        size = int.from_bytes(data[found - 4 : found], "big")
        if size in _FTYP_BYTES and _BRANDS.fullmatch(data, found + 4, found - 4 + size):
            return True
        at, chances = found + 1, chances + 1
    return False


def _offsets(index: bytes, base: int) -> Iterator[int]:
    try:
        directory = read_first(index)
    except BrokenDirectoryError:
        return
    entry = directory.entries.get(_ENTRIES)
    raw = b"" if entry is None else entry.raw[: _MAX_PICTURES * _ENTRY_BYTES]
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
