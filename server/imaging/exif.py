"""EXIF: what the camera noted, as one block of bytes that starts with its TIFF header (EXIF 2.32)."""

import re
import struct
from contextlib import suppress

from server.imaging import tiff_directory
from server.imaging.tiff_directory import LONG, SHORT, BrokenDirectoryError, Directory, Entry, integer_entry

PREFIX = b"Exif\0\0"

_ORIENTATION = 0x0112
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_SIZES_IN_PIXELS = (0xA002, 0xA003)
# What a TIFF file says about its scene; the rest of its first directory is about the layout of its pixels.
_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298)
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>)\s*)[1-8]")


def orientation(block: bytes | None) -> int:
    """The orientation that a block states, 1..8; 1 if it states none or is broken."""
    if block:
        with suppress(BrokenDirectoryError):
            return orientation_of(tiff_directory.read_first(block))
    return 1


def orientation_of(directory: Directory) -> int:
    """The orientation that the first directory of a file states, 1..8."""
    value = directory.integer(_ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def upright(block: bytes | None) -> bytes | None:
    """The block for the turned image: orientation 1, its sizes swapped if it lay, no thumbnail; None if it is broken.

    The bytes are changed in place and nothing moves, because a maker's note holds offsets that only its maker knows.
    The thumbnail goes: it shows the picture as it lay, and unrestored.
    """
    if not block:
        return None
    try:
        first = tiff_directory.read_first(block)
        changed = bytearray(block)
        lay = orientation_of(first) >= 5
        if entry := first.entries.get(_ORIENTATION):
            _set_integer(changed, first.order, entry, 1)
        if lay and (offset := first.integer(_EXIF_IFD, 0)):
            _swap_sizes(changed, tiff_directory.read(block, offset, first.order))
        end = _unlink_thumbnail(changed, block, first)
    except BrokenDirectoryError:
        return None
    return bytes(changed[:end])


def upright_xmp(xmp: bytes | None) -> bytes | None:
    """The XMP packet with any copy of the orientation set to 1."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp) if xmp else None


def from_tiff(data: bytes, first: Directory) -> bytes | None:
    """The block that says what a TIFF file says about its scene; None if that is nothing."""
    entries = _descriptive_entries(data, first)
    return _block(first.order, *entries) if any(entries) else None


def to_tiff(block: bytes) -> tuple[str, list[Entry], list[Entry], list[Entry]]:
    """A block's byte order, and its tags for a TIFF file's first, EXIF and GPS directories.

    Raises BrokenDirectoryError if the first is broken; the others are left out.
    """
    first = tiff_directory.read_first(block)
    return (first.order, *_descriptive_entries(block, first))


def append_directories(
    order: str, first: list[Entry], below: tuple[list[Entry], list[Entry]], at: int
) -> tuple[bytes, int]:
    """The EXIF and GPS directories and then the first one, for the even offset `at`, and the offset of the first."""
    data = b""
    for pointer, entries in zip((_EXIF_IFD, _GPS_IFD), below, strict=True):
        if entries:
            first = [*first, integer_entry(order, pointer, LONG, at + len(data))]
            data += tiff_directory.write(order, entries, at + len(data))
    return data + tiff_directory.write(order, first, at + len(data)), at + len(data)


def _descriptive_entries(data: bytes, first: Directory) -> tuple[list[Entry], list[Entry], list[Entry]]:
    below = []
    for pointer in (_EXIF_IFD, _GPS_IFD):
        directory = Directory(first.order)
        with suppress(BrokenDirectoryError):  # it is left out, as it is where it is absent
            directory = tiff_directory.read(data, first.integer(pointer, 0), first.order)
        # Tag 0xA005 points to one more directory, which only says how the EXIF itself is written.
        below.append([entry for tag, entry in directory.entries.items() if tag != 0xA005])
    return [first.entries[tag] for tag in _DESCRIPTIVE if tag in first.entries], below[0], below[1]


def _block(order: str, first: list[Entry], exif: list[Entry], gps: list[Entry]) -> bytes:
    directories, offset = append_directories(order, first, (exif, gps), 8)
    header = next(magic for magic, its in tiff_directory.HEADERS.items() if its == order)
    return header + struct.pack(f"{order}I", offset) + directories


def _set_integer(block: bytearray, order: str, entry: Entry, value: int) -> None:
    if entry.count == 1 and entry.kind in (SHORT, LONG):
        struct.pack_into(f"{order}{'H' if entry.kind == SHORT else 'I'}", block, entry.at, value)


def _swap_sizes(block: bytearray, directory: Directory) -> None:
    width, height = (directory.entries.get(tag) for tag in _SIZES_IN_PIXELS)
    if width and height:
        values = [directory.integer(tag, 0) for tag in _SIZES_IN_PIXELS]
        if width.kind == height.kind or max(values) < 2**16:
            _set_integer(block, directory.order, width, values[1])
            _set_integer(block, directory.order, height, values[0])


def _unlink_thumbnail(block: bytearray, source: bytes, first: Directory) -> int:
    # Returns where the block may end: cameras put the thumbnail last.
    if first.next_offset == 0:
        return len(block)
    block[first.next_at : first.next_at + 4] = bytes(4)
    with suppress(BrokenDirectoryError):
        second = tiff_directory.read(source, first.next_offset, first.order)
        start, length = second.integer(0x0201, 0), second.integer(0x0202, 0)
        if start > 8 and start + length == len(block) and start > first.next_offset > first.next_at:
            return start
    return len(block)
