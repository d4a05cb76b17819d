"""Reading and resetting of the orientation in EXIF and XMP (EXIF 2.32, tag 0x0112)."""

import re
import struct

from server.imaging.tiff_directory import SHORT, Directory, Entry

TAG = 0x0112
UPRIGHT = 1

# Writers use each of these types for this tag, and viewers accept them.
_NUMBERS = {1: "B", SHORT: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I"}
_TEXT, _RATIONALS = 2, {5: "II", 10: "ii"}

_NAMESPACE = re.compile(rb"xmlns:([\w.-]{1,40})\s*=\s*[\"']http://ns\.adobe\.com/tiff/1\.0/[\"']")
_USUAL_PREFIX = b"tiff"
_MAX_PREFIXES = 4
# Matches the property as an attribute, and as an element with or without attributes.
_PROPERTY = rb"(\b(?:%s):Orientation(?:\s*=\s*[\"']|[^<>=]{0,8}>|\s[^<>]{0,200}>)\s*)([1-8])(?=\s*[\"'<])"


def of_directory(directory: Directory) -> int | None:
    """Read the orientation 1..8 from the first directory of a file, of any type and count; else None."""
    entry = directory.entries.get(TAG)
    value = None if entry is None or entry.count == 0 else _number(directory.order, entry)
    return int(value) if value is not None and value in range(1, 9) else None


def of_xmp(xmp: bytes | None) -> int | None:
    """Read the orientation 1..8 from an XMP packet; else None."""
    found = _property(xmp).search(xmp) if xmp else None
    return int(found[2]) if found else None


def upright_xmp(xmp: bytes | None) -> bytes | None:
    """Set every occurrence of the orientation in an XMP packet to 1."""
    return _property(xmp).sub(rb"\g<1>1", xmp) if xmp else None


def upright_record(order: str) -> bytes:
    """Return the 12-byte directory entry for orientation 1."""
    return struct.pack(f"{order}HHIHH", TAG, SHORT, 1, UPRIGHT, 0)


def _number(order: str, entry: Entry) -> float | None:
    if entry.kind == _TEXT:
        text = entry.raw.strip(b"\0 ")
        return int(text) if text.isdigit() and len(text) == 1 else None
    if entry.kind in _RATIONALS:
        numerator, denominator = struct.unpack_from(order + _RATIONALS[entry.kind], entry.raw)
        return numerator / denominator if denominator else None
    number: float = struct.unpack_from(order + _NUMBERS[entry.kind], entry.raw)[0]
    return number


def _property(xmp: bytes) -> re.Pattern[bytes]:
    prefixes = {_USUAL_PREFIX}
    for found in _NAMESPACE.finditer(xmp):
        prefixes.add(found[1])
        if len(prefixes) > _MAX_PREFIXES:
            break
    return re.compile(_PROPERTY % b"|".join(map(re.escape, sorted(prefixes))))
