"""EXIF: camera metadata in a block that starts with a TIFF header (EXIF 2.32)."""

import struct
from contextlib import suppress
from dataclasses import replace

from server.imaging import orientation as orientations
from server.imaging import tiff_directory
from server.imaging.tiff_directory import LONG, SHORT, BrokenDirectoryError, Directory, Entry, integer_entry

PREFIX = b"Exif\0\0"

_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_SIZES_IN_PIXELS = (0xA002, 0xA003)
_SIZES_OF_TIFF = (0x0100, 0x0101)  # some phones write these instead
# The tags of a TIFF file's first directory that describe the scene; the others describe the layout of the pixels.
_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298)
# Georeferencing (GeoTIFF 1.1, section 7.1) and GDAL's metadata, which refer to rows and columns as stored.
_GEOGRAPHIC = (33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)


def orientation(block: bytes | None, xmp: bytes | None = None) -> int:
    """Return the orientation 1..8 from the EXIF block, else from the XMP, else 1."""
    stated = None
    if block:
        with suppress(BrokenDirectoryError):
            stated = orientations.of_directory(tiff_directory.read_first(block))
    return stated or orientations.of_xmp(xmp) or orientations.UPRIGHT


def upright(block: bytes | None, turned_by: int = 1) -> bytes | None:
    """Set the orientation in a block to 1, and swap the sizes if the image was turned sideways.

    None if the block is malformed. Invalid entries are removed, and so is the thumbnail, which shows the unrestored
    picture. No value is moved, because maker notes contain offsets of unknown meaning.
    """
    if not block:
        return None
    try:
        changed = bytearray(block)
        first = _without_unsound(changed)
        for tag, record in zip(first.entries, first.records, strict=True):
            if tag == orientations.TAG:
                changed[record : record + 12] = orientations.upright_record(first.order)
        if turned_by >= 5:
            _swap_sizes(changed, first, _SIZES_OF_TIFF)
            if offset := first.integer(_EXIF_IFD, 0):
                _swap_sizes(changed, tiff_directory.read(bytes(changed), offset, first.order), _SIZES_IN_PIXELS)
        result = bytes(changed[: _end_without_thumbnail(block)])
    except BrokenDirectoryError:
        return None
    return result if orientation(result) == 1 else None  # overlapping directories may undo each other's changes


def from_tiff(data: bytes, first: Directory, *, is_upright: bool) -> bytes | None:
    """Collect the tags of a TIFF file that describe its scene into a block; None if there are none.

    Georeferencing is left out unless `is_upright`, because turning the picture would invalidate it.
    """
    entries = _descriptive_entries(data, first, _DESCRIPTIVE + (_GEOGRAPHIC if is_upright else ()))
    return _block(first.order, *entries) if any(entries) else None


def to_tiff(block: bytes) -> tuple[str, list[Entry], list[Entry], list[Entry]]:
    """Return a block's byte order, and its tags for the first, EXIF and GPS directories of a TIFF file.

    Malformed EXIF and GPS directories are left out; raises BrokenDirectoryError if the first directory is malformed.
    """
    first = tiff_directory.read_first(block)
    return (first.order, *_descriptive_entries(block, first, _DESCRIPTIVE + _GEOGRAPHIC))


def append_directories(
    order: str, first: list[Entry], below: tuple[list[Entry], list[Entry]], at: int
) -> tuple[bytes, int]:
    """Write the EXIF, GPS and first directories for the even offset `at`; also returns the offset of the first."""
    data = b""
    for pointer, entries in zip((_EXIF_IFD, _GPS_IFD), below, strict=True):
        if entries:
            first = [*first, integer_entry(order, pointer, LONG, at + len(data))]
            data += tiff_directory.write(order, entries, at + len(data))
    return data + tiff_directory.write(order, first, at + len(data)), at + len(data)


def _descriptive_entries(
    data: bytes, first: Directory, tags: tuple[int, ...]
) -> tuple[list[Entry], list[Entry], list[Entry]]:
    below = []
    for pointer in (_EXIF_IFD, _GPS_IFD):
        directory = Directory(first.order)
        with suppress(BrokenDirectoryError):  # a malformed directory is left out
            directory = tiff_directory.read(data, first.integer(pointer, 0), first.order)
        # Tag 0xA005 points to the interoperability directory, which only describes the EXIF version.
        below.append([entry for tag, entry in directory.entries.items() if tag != 0xA005])
    return [first.entries[tag] for tag in tags if tag in first.entries], below[0], below[1]


def _block(order: str, first: list[Entry], exif: list[Entry], gps: list[Entry]) -> bytes:
    directories, offset = append_directories(order, first, (exif, gps), 8)
    header = next(magic for magic, its in tiff_directory.HEADERS.items() if its == order)
    return header + struct.pack(f"{order}I", offset) + directories


def _without_unsound(block: bytearray) -> Directory:
    # Compacts the directories in place, and removes pointers to directories that cannot be read.
    first = tiff_directory.read_first(bytes(block))
    kept = []
    for tag, record in zip(first.entries, first.records, strict=True):
        if tag in (_EXIF_IFD, _GPS_IFD):
            try:
                below = tiff_directory.read(bytes(block), first.integer(tag, 0), first.order)
            except BrokenDirectoryError:
                continue
            if below.left_out or not below.is_whole:
                tiff_directory.compact(block, below)
        kept.append(record)
    tiff_directory.compact(block, replace(first, records=tuple(kept)))
    return tiff_directory.read_first(bytes(block))


def _set_integer(block: bytearray, order: str, entry: Entry, value: int) -> None:
    if entry.count == 1 and entry.kind in (SHORT, LONG):
        struct.pack_into(f"{order}{'H' if entry.kind == SHORT else 'I'}", block, entry.at, value)


def _swap_sizes(block: bytearray, directory: Directory, tags: tuple[int, int]) -> None:
    width, height = (directory.entries.get(tag) for tag in tags)
    if width and height:
        values = [directory.integer(tag, 0) for tag in tags]
        if width.kind == height.kind or max(values) < 2**16:
            _set_integer(block, directory.order, width, values[1])
            _set_integer(block, directory.order, height, values[0])


def _end_without_thumbnail(block: bytes) -> int:
    # Returns the length of the block without its thumbnail, which cameras put last.
    first = tiff_directory.read_first(block)
    with suppress(BrokenDirectoryError):
        second = tiff_directory.read(block, first.next_offset, first.order)
        start, length = second.integer(0x0201, 0), second.integer(0x0202, 0)
        if start > 8 and start + length == len(block) and start > first.next_offset > first.at:
            return start
    return len(block)
