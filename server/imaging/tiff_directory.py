"""Bounds-checked reading and writing of TIFF directories in TIFF files and EXIF blocks (TIFF 6.0, section 2)."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

SHORT, LONG = 3, 4
HEADERS = {b"II*\0": "<", b"MM\0*": ">"}

_VALUE_BYTES = {1: 1, 2: 1, SHORT: 2, LONG: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_INTEGERS = {1: "B", SHORT: "H", LONG: "I", 13: "I"}
_ENTRY = 12
_INLINE = 4
_MOST_ENTRIES = 1024  # cameras write about a hundred; every entry costs time before a limit applies


class BrokenDirectoryError(ValueError):
    """The bytes are not a directory, or point outside the data."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Tag of a directory: `kind` is its TIFF field type, `raw` its values in the directory's byte order."""

    tag: int
    kind: int
    count: int
    raw: bytes
    at: int = -1
    """Offset of `raw` in the data."""


@dataclass(frozen=True)
class Directory:
    """Valid tags of one directory; `order` is '<' or '>', `next_offset` is 0 if no other directory follows."""

    order: str
    entries: dict[int, Entry] = field(default_factory=dict)
    next_offset: int = 0
    at: int = -1
    left_out: frozenset[int] = frozenset()
    """Tags of duplicate entries, or of entries with invalid type or offset: readers differ in how they treat them."""
    is_whole: bool = True
    """Whether all declared entries are present."""
    records: tuple[int, ...] = ()
    """Offsets of the valid entries, 12 bytes each."""

    def integers(self, tag: int, most: int | None = None) -> tuple[int, ...]:
        """Return the first `most` values of an unsigned integer tag; empty if it is absent or of another type."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _INTEGERS:
            return ()
        count = entry.count if most is None else min(entry.count, most)
        return struct.unpack_from(f"{self.order}{count}{_INTEGERS[entry.kind]}", entry.raw)

    def integer(self, tag: int, default: int) -> int:
        """Return the first value of an unsigned integer tag, or `default`."""
        return next(iter(self.integers(tag, 1)), default)


def read_first(data: bytes) -> Directory:
    """Read the valid entries of a TIFF file's or EXIF block's first directory; `BrokenDirectoryError` if none."""
    order = HEADERS.get(data[:4])
    if order is None or len(data) < 8:
        raise BrokenDirectoryError("there is no TIFF header")
    return read(data, struct.unpack_from(f"{order}I", data, 4)[0], order)


def read_first_strictly(data: bytes) -> Directory:
    """Read the first directory for readers that trust all entries; raise `BrokenDirectoryError` if any is invalid."""
    directory = read_first(data)
    if directory.left_out or not directory.is_whole:
        raise BrokenDirectoryError("a directory is cut off, or has entries twice or outside the data")
    return directory


def read(data: bytes, offset: int, order: str) -> Directory:
    """Read the directory at `offset`, entry by entry; raise `BrokenDirectoryError` if there is none.

    As in viewers, an invalid entry is skipped without affecting others, and of duplicate tags the first valid one
    counts. The total size of the values may not exceed the data: overlapping values would let a small file fill the
    memory.
    """
    if offset < 8 or offset + 2 > len(data):
        raise BrokenDirectoryError("a directory lies outside the data")
    announced = struct.unpack_from(f"{order}H", data, offset)[0]
    slots = min(announced, _MOST_ENTRIES, (len(data) - offset - 2) // _ENTRY)
    end = offset + 2 + slots * _ENTRY
    entries: dict[int, Entry] = {}
    left_out: set[int] = set()
    records: list[int] = []
    held = 0
    for at in range(offset + 2, end, _ENTRY):
        tag, kind, values = struct.unpack_from(f"{order}HHI", data, at)
        size = _VALUE_BYTES.get(kind, 0) * values
        start = at + 8 if size <= _INLINE else struct.unpack_from(f"{order}I", data, at + 8)[0]
        if tag in entries or kind not in _VALUE_BYTES or max(start, held) + size > len(data):
            left_out.add(tag)
            continue
        held += size
        records.append(at)
        entries[tag] = Entry(tag, kind, values, data[start : start + size], start)
    if not entries:
        raise BrokenDirectoryError("a directory has no sound entry")
    # The last directory of an EXIF block is often truncated before the pointer to a next one.
    is_whole = slots == announced
    following = struct.unpack_from(f"{order}I", data, end)[0] if is_whole and end + 4 <= len(data) else 0
    return Directory(order, entries, following, offset, frozenset(left_out), is_whole, tuple(records))


def compact(block: bytearray, directory: Directory) -> None:
    """Keep only the valid entries of a directory, without a next one, in place; values stored elsewhere do not move."""
    kept = b"".join(block[record : record + _ENTRY] for record in directory.records)
    struct.pack_into(f"{directory.order}H", block, directory.at, len(directory.records))
    start = directory.at + 2
    end = min(len(block), start + len(kept) + 4)
    block[start:end] = kept.ljust(end - start, b"\0")


def integer_entry(order: str, tag: int, kind: int, *values: int) -> Entry:
    """Create an entry of unsigned integers, `kind` SHORT or LONG."""
    return Entry(tag, kind, len(values), struct.pack(f"{order}{len(values)}{_INTEGERS[kind]}", *values))


def write(order: str, entries: Iterable[Entry], at: int) -> bytes:
    """Serialise a directory for the even offset `at`, followed by its longer values; the length is even."""
    ordered = sorted(entries, key=lambda entry: entry.tag)
    fields, values = bytearray(struct.pack(f"{order}H", len(ordered))), bytearray()
    values_at = at + 2 + len(ordered) * _ENTRY + 4
    for entry in ordered:
        fields += struct.pack(f"{order}HHI", entry.tag, entry.kind, entry.count)
        if len(entry.raw) <= _INLINE:
            fields += entry.raw.ljust(_INLINE, b"\0")
            continue
        fields += struct.pack(f"{order}I", values_at + len(values))
        values += entry.raw + b"\0" * (len(entry.raw) % 2)
    return bytes(fields + b"\0" * 4 + values)
