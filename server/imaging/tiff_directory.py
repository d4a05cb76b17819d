"""Reading and writing of directories of TIFF files and EXIF blocks (TIFF 6.0, section 2)."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

SHORT, LONG = 3, 4
HEADERS = {b"II*\0": "<", b"MM\0*": ">"}

_VALUE_BYTES = {1: 1, 2: 1, SHORT: 2, LONG: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_INTEGERS = {1: "B", SHORT: "H", LONG: "I", 13: "I"}
_ENTRY = 12
_INLINE = 4
_MAX_ENTRIES = 1024  # cameras write about a hundred; each takes time before a limit can be checked


class BrokenDirectoryError(ValueError):
    """The bytes are not a directory, or point outside the data."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag: `kind` is its TIFF field type, `raw` its values in the byte order of the directory."""

    tag: int
    kind: int
    count: int
    raw: bytes
    at: int = -1
    """The offset at which `raw` was read; -1 for new entries."""


@dataclass(frozen=True)
class Directory:
    """The valid tags of one directory; `order` is '<' or '>', `next_offset` is 0 if no other directory follows."""

    order: str
    entries: dict[int, Entry] = field(default_factory=dict)
    next_offset: int = 0
    at: int = -1
    left_out: frozenset[int] = frozenset()
    """Tags of duplicate entries and of entries with an invalid type or offset, which readers treat differently."""
    is_whole: bool = True
    """Whether the directory contains all entries that it declares."""
    records: tuple[int, ...] = ()
    """The offsets of the valid entries, 12 bytes each."""

    def integers(self, tag: int, limit: int | None = None) -> tuple[int, ...]:
        """Return the first `limit` values of an unsigned integer tag; empty if it is absent or of another type."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _INTEGERS:
            return ()
        count = entry.count if limit is None else min(entry.count, limit)
        return struct.unpack_from(f"{self.order}{count}{_INTEGERS[entry.kind]}", entry.raw)

    def integer(self, tag: int, default: int) -> int:
        """Return the first value of an unsigned integer tag, or the default."""
        return next(iter(self.integers(tag, 1)), default)


def read_first(data: bytes) -> Directory:
    """Read the valid entries of the first directory of a TIFF file or EXIF block; raises BrokenDirectoryError."""
    order = HEADERS.get(data[:4])
    if order is None or len(data) < 8:
        raise BrokenDirectoryError("there is no TIFF header")
    return read(data, struct.unpack_from(f"{order}I", data, 4)[0], order)


def read_first_strictly(data: bytes) -> Directory:
    """Read the first directory; raises BrokenDirectoryError if any entry is invalid."""
    directory = read_first(data)
    if directory.left_out or not directory.is_whole:
        raise BrokenDirectoryError("a directory is cut off, or has duplicate entries or entries outside the data")
    return directory


def read(data: bytes, offset: int, order: str) -> Directory:
    """Read the directory at `offset`; raises BrokenDirectoryError if there is none.

    Invalid entries are skipped, as in viewers; the first valid entry of a tag is used. The sum of all values may not
    exceed the data: overlapping values would let a small file exhaust the memory.
    """
    if offset < 8 or offset + 2 > len(data):
        raise BrokenDirectoryError("a directory lies outside the data")
    declared = struct.unpack_from(f"{order}H", data, offset)[0]
    slots = min(declared, _MAX_ENTRIES, (len(data) - offset - 2) // _ENTRY)
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
        raise BrokenDirectoryError("a directory has no valid entry")
    # The last directory of an EXIF block is often cut off before the pointer to a next one.
    is_whole = slots == declared
    following = struct.unpack_from(f"{order}I", data, end)[0] if is_whole and end + 4 <= len(data) else 0
    return Directory(order, entries, following, offset, frozenset(left_out), is_whole, tuple(records))


def compact(block: bytearray, directory: Directory) -> None:
    """Remove invalid entries and the next directory in place; values outside the entries are not moved."""
    kept = b"".join(block[record : record + _ENTRY] for record in directory.records)
    struct.pack_into(f"{directory.order}H", block, directory.at, len(directory.records))
    start = directory.at + 2
    end = min(len(block), start + len(kept) + 4)
    block[start:end] = kept.ljust(end - start, b"\0")


def integer_entry(order: str, tag: int, kind: int, *values: int) -> Entry:
    """Return an entry of unsigned integers, `kind` SHORT or LONG."""
    return Entry(tag, kind, len(values), struct.pack(f"{order}{len(values)}{_INTEGERS[kind]}", *values))


def write(order: str, entries: Iterable[Entry], at: int) -> bytes:
    """Write a directory for the even offset `at`, followed by its longer values; the length is even."""
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
