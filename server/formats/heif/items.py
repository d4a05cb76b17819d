"""Item tables, which list the contents of a HEIF file (ISO/IEC 14496-12, 8.11; ISO/IEC 23008-12, 9.3)."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from server.formats.heif.boxes import Box, BrokenBoxError, Fields, boxes, shown
from server.formats.heif.tracks import SEQUENCE_BRANDS, frames_of

# A phone's photo has about 60 items; 200 megapixels in tiles of 512 x 512 are about 800. Decoding time grows with the
# square of this number.
MAX_ITEMS = 1000
_MAX_FILE_BOXES, _MAX_META_BOXES = 1000, 100
_MAX_PROPERTIES = 2000
_MAX_EXTENTS = _MAX_ASSOCIATIONS = _MAX_REFERENCES = 10_000
_MAX_BRAND_BYTES = 4096
_MAX_INFO_BYTES = 4096
_VERSION_BYTES = 4
# A grid may reuse a tile, but a small file must not be read many times.
_MAX_COPIES = 2
# The boxes that decoders need; all others are hidden from them.
_FILE_BOXES = frozenset({b"ftyp", b"meta", b"mdat"})
_TABLES = frozenset({b"hdlr", b"pitm", b"iloc", b"iinf", b"iprp", b"iref", b"idat"})
_IN_FILE, _IN_IDAT = 0, 1


class Reference(NamedTuple):
    """A reference from one item to others; `kind` is their relation."""

    kind: bytes
    source: int
    targets: tuple[int, ...]


@dataclass
class Item:
    """One item of a file: an image, a tile, EXIF or other data."""

    kind: bytes
    flags_at: int
    """The offset of the last byte of its flags in the file."""
    kind_at: int
    """The offset of `kind`."""
    content_type: bytes = b""
    extents: list[tuple[int, int]] | None = field(default_factory=list)
    """Start and end of each extent of its content; None if the content is outside this file."""
    properties: list[Box] = field(default_factory=list)
    """The boxes of its properties, in the order in which they apply."""

    @property
    def size(self) -> int:
        """The length of its content in bytes."""
        return sum(end - start for start, end in self.extents or ())

    def property(self, kind: bytes) -> Box | None:
        """Return the first property of a kind."""
        return next((box for box in self.properties if box.kind == kind), None)


@dataclass
class Items:
    """The item tables of one file, and the positions of data that decoders do not need."""

    data: bytes
    frames: int = 1
    primary: int = 0
    by_number: dict[int, Item] = field(default_factory=dict)
    references: list[Reference] = field(default_factory=list)
    brands_at: list[int] = field(default_factory=list)
    """Offsets of the major brand and of the brands of image sequences."""
    skipped: list[Box] = field(default_factory=list)
    """Boxes to hide from decoders."""

    def content(self, item: Item) -> bytes:
        """Return the content of an item, joined from its extents."""
        return b"".join(self.data[start:end] for start, end in item.extents or ())

    def targets(self, kind: bytes, source: int) -> list[int]:
        """Return the items that `source` refers to as `kind`."""
        return [to for one in self.references if (one.kind, one.source) == (kind, source) for to in one.targets]

    def sources(self, kind: bytes, targets: Iterable[int]) -> list[int]:
        """Return the items that refer to one of `targets` as `kind`."""
        wanted = set(targets)
        return [one.source for one in self.references if one.kind == kind and not wanted.isdisjoint(one.targets)]


def read_items(data: bytes) -> Items:
    """Read the item tables of a file, or only its frame count if it has several frames.

    Raises BrokenBoxError for tables that are malformed or larger than those of any photo.
    """
    items = Items(data)
    found = list(boxes(data, 0, len(data), _MAX_FILE_BOXES, may_be_cut=True))
    brands = _only(b"ftyp", found)
    _bounded(brands.end, _MAX_BRAND_BYTES, "bytes of brands")
    compatible = range(brands.body + 8, brands.end - 3, 4)
    items.brands_at = [brands.body, *(at for at in compatible if data[at : at + 4] in SEQUENCE_BRANDS)]
    items.skipped += [box for box in found if box.kind not in _FILE_BOXES]
    items.frames = frames_of(data, next((box for box in found if box.kind == b"moov"), None))
    if items.frames > 1:
        return items
    tables = _tables(items, _only(b"meta", found))
    fields, version = _full(data, tables[b"pitm"])
    items.primary = fields.integer(4 if version else 2)
    _read_infos(items, tables[b"iinf"])
    _read_locations(items, tables[b"iloc"], tables.get(b"idat"))
    if b"iprp" in tables:
        _read_properties(items, tables[b"iprp"])
    if b"iref" in tables:
        _read_references(items, tables[b"iref"])
    if items.primary not in items.by_number:
        raise BrokenBoxError("the primary item is not in the list of items")
    return items


def _tables(items: Items, meta: Box) -> dict[bytes, Box]:
    tables: dict[bytes, Box] = {}
    for box in boxes(items.data, meta.body + _VERSION_BYTES, meta.end, _MAX_META_BOXES):
        if box.kind not in _TABLES:
            items.skipped.append(box)
        elif box.kind in tables:
            raise BrokenBoxError(f"there are two boxes {shown(box.kind)}, and readers differ in which they use")
        else:
            tables[box.kind] = box
    for kind in (b"pitm", b"iinf", b"iloc"):
        if kind not in tables:
            raise BrokenBoxError(f"there is no box {shown(kind)}")
    return tables


def _only(kind: bytes, found: list[Box]) -> Box:
    of_kind = [box for box in found if box.kind == kind]
    if not of_kind:
        raise BrokenBoxError(f"there is no box {shown(kind)}")
    if len(of_kind) > 1:
        raise BrokenBoxError(f"there are {len(of_kind)} boxes {shown(kind)} instead of one")
    return of_kind[0]


def _full(data: bytes, box: Box) -> tuple[Fields, int]:
    # Returns the fields after the version and flags of a full box, and the version.
    fields = Fields(data, box.body, box.end)
    return fields, fields.integer(_VERSION_BYTES) >> 24


def _bounded(count: int, limit: int, what: str) -> int:
    if count > limit:
        raise BrokenBoxError(f"there are more than {limit} {what}")
    return count


def _read_infos(items: Items, box: Box) -> None:
    fields, version = _full(items.data, box)
    _bounded(fields.integer(4 if version else 2), MAX_ITEMS, "items")
    for info in boxes(items.data, fields.at, box.end, MAX_ITEMS):
        entry, entry_version = _full(items.data, info)
        _bounded(info.end - info.body, _MAX_INFO_BYTES, "bytes about one item")
        if info.kind != b"infe" or entry_version not in (2, 3):
            raise BrokenBoxError("the list of items contains something else")
        number = entry.integer(2 if entry_version == 2 else 4)
        entry.integer(2)  # its protection
        item = Item(entry.take(4), info.body + _VERSION_BYTES - 1, entry.at - 4)
        entry.text()  # its name
        if item.kind == b"mime":
            item.content_type = entry.text()
        if number in items.by_number:
            raise BrokenBoxError(f"item {number} is listed twice")
        items.by_number[number] = item


def _read_locations(items: Items, box: Box, idat: Box | None) -> None:
    fields, version = _full(items.data, box)
    sizes = fields.integer(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    held, known, listed = 0, set[int](), 0
    for _ in range(_bounded(fields.integer(4 if version == 2 else 2), MAX_ITEMS, "item locations")):
        number = fields.integer(4 if version == 2 else 2)
        method = fields.integer(2) & 15 if version else _IN_FILE
        fields.integer(2)  # which file: 0, this one
        base = fields.integer(base_size)
        if number in known:
            raise BrokenBoxError(f"item {number} has two locations")
        known.add(number)
        extents: list[tuple[int, int]] | None = []
        room = (0, len(items.data)) if method == _IN_FILE else (idat.body, idat.end) if idat else (0, 0)
        count = fields.integer(2)
        listed = _bounded(listed + count, _MAX_EXTENTS, "extents of items")
        for _ in range(count):
            fields.take(index_size)
            start = room[0] + base + fields.integer(offset_size)
            length = fields.integer(length_size) or room[1] - start
            held += max(0, length)
            if extents is None or method not in (_IN_FILE, _IN_IDAT) or not start <= start + length <= room[1]:
                extents = None
            else:
                extents.append((start, start + length))
        if number in items.by_number:
            items.by_number[number].extents = extents
    _bounded(held, _MAX_COPIES * len(items.data), "bytes in the extents of items")


def _read_properties(items: Items, box: Box) -> None:
    inner = list(boxes(items.data, box.body, box.end, _MAX_META_BOXES))
    container = _only(b"ipco", inner)
    properties = list(boxes(items.data, container.body, container.end, _MAX_PROPERTIES))
    listed = 0
    for table in inner:
        if table.kind != b"ipma":
            continue
        fields, version = _full(items.data, table)
        is_long = items.data[table.body + 3] & 1
        for _ in range(_bounded(fields.integer(4), MAX_ITEMS, "items with properties")):
            item = items.by_number.get(fields.integer(4 if version else 2))
            count = fields.integer(1)
            listed = _bounded(listed + count, _MAX_ASSOCIATIONS, "properties of items")
            for _ in range(count):
                place = fields.integer(2) & 0x7FFF if is_long else fields.integer(1) & 0x7F
                if place > len(properties):
                    raise BrokenBoxError("an item has a property that does not exist")
                if item is not None and place:
                    item.properties.append(properties[place - 1])


def _read_references(items: Items, box: Box) -> None:
    fields, version = _full(items.data, box)
    width, listed = (4 if version else 2), 0
    for reference in boxes(items.data, fields.at, box.end, _MAX_REFERENCES):
        entry = Fields(items.data, reference.body, reference.end)
        source = entry.integer(width)
        count = entry.integer(2)
        listed = _bounded(listed + count, _MAX_REFERENCES, "references between items")
        targets = tuple(entry.integer(width) for _ in range(count))
        items.references.append(Reference(reference.kind, source, targets))
