"""Handmade TIFF files with sequences and hierarchies of directories."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from server.imaging.tiff_directory import Entry, integer_entry, write

Value = int | tuple[int, ...] | bytes
SUBFILE, SUB_IFDS, STRIP_OFFSETS = 254, 330, 273


@dataclass
class Page:
    """One directory: tags, pixels in one strip, and subdirectories."""

    tags: Mapping[int, Value]
    pixels: bytes = b""
    below: Sequence["Page"] = field(default_factory=list)


def grey_page(side: int, shade: int, subfile: int | None = None, below: Sequence[Page] = (), **more: Value) -> Page:
    """Build a page of one shade of grey; additional tags are named by their numbers after `t`."""
    tags: dict[int, Value] = {256: side, 257: side, 258: 8, 259: 1, 262: 1, 277: 1, 278: side, 279: side * side}
    if subfile is not None:
        tags[SUBFILE] = subfile
    tags |= {int(name[1:]): value for name, value in more.items()}
    return Page(tags, bytes([shade]) * (side * side), below)


def tiff_of(*pages: Page, order: str = "<") -> bytes:
    """Build a file of several pages."""
    data = bytearray(b"II*\0" if order == "<" else b"MM\0*") + bytes(4)
    pointer = 4
    for page in pages:
        at = _append(data, page, order)
        struct.pack_into(f"{order}I", data, pointer, at)
        pointer = at + 2 + 12 * struct.unpack_from(f"{order}H", data, at)[0]
    return bytes(data)


def _append(data: bytearray, page: Page, order: str) -> int:
    below = tuple(_append(data, one, order) for one in page.below)
    tags = dict(page.tags)
    if below:
        tags[SUB_IFDS] = below
    if page.pixels:
        tags[STRIP_OFFSETS] = len(data)
        data += page.pixels + bytes(len(page.pixels) % 2)
    at = len(data)
    data += write(order, [_entry(order, tag, value) for tag, value in tags.items()], at)
    return at


def _entry(order: str, tag: int, value: Value) -> Entry:
    if isinstance(value, bytes):
        return Entry(tag, 2, len(value), value)
    values = value if isinstance(value, tuple) else (value,)
    return integer_entry(order, tag, 3 if max(values) < 2**16 else 4, *values)
