"""Properties of a HEIF file's primary image (ISO/IEC 23008-12, sections 6.5 and 6.6)."""

from collections.abc import Iterator
from dataclasses import dataclass

from server.errors import ImageTooLarge, UndecodableImage, UnsupportedImage
from server.formats.base import check_metadata_size, multiple_frames_error
from server.formats.heif.boxes import Box, BrokenBoxError, Fields, shown
from server.formats.heif.code_points import code_points
from server.formats.heif.coded_size import Size, av1_sizes, hevc_sizes
from server.formats.heif.items import Item, Items, read_items
from server.imaging import exif, tiff_directory
from server.imaging.metadata import Metadata

CODECS = {"AVIF": frozenset({b"av01"}), "HEIC": frozenset({b"hvc1", b"hev1"})}
"""The item types that each format uses for coded images."""

_STILL_BRANDS = {"AVIF": b"avif", "HEIC": b"heic"}
_ALPHA = frozenset({b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1"})
_AUXILIARY_PARTS = {
    b"urn:com:apple:photo:2020:aux:hdrgainmap": "gain-map",
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth": "depth-map",
    b"urn:mpeg:hevc:2015:auxid:2": "depth-map",
}
_XMP = b"application/rdf+xml"
_PROFILES = frozenset({b"prof", b"rICC"})
# EXIF orientation 1..8, by mirror axis and then by the number of anticlockwise quarter turns before the mirroring.
_ORIENTATIONS = {None: (1, 8, 3, 6), 0: (4, 5, 2, 7), 1: (2, 7, 4, 5)}
# Decoded sizes slightly exceed the displayed size, because tiles extend past the right and lower edges and encoders
# code whole blocks.
_MAX_TIMES, _SPARE_PIXELS = 4, 2**20


@dataclass(frozen=True)
class Crop:
    """The displayed part of the decoded samples, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Picture:
    """The primary image of a file; `width` and `height` are as decoded, before cropping and turning."""

    items: Items
    brand: bytes
    width: int
    height: int
    depth: int
    is_grey: bool
    has_alpha: bool
    parts: frozenset[str]
    """Other images of the file: gain-map, depth-map."""
    crop: Crop
    """The displayed part, before orientation."""
    turn: Box | None
    mirror: Box | None
    metadata: Metadata

    @property
    def orientation(self) -> int:
        """EXIF orientation 1..8 from the item tables; the EXIF block is ignored (section 6.5.10)."""
        angle = 0 if self.turn is None else _fields(self.items, self.turn, "angle").integer(1) & 3
        axis = None if self.mirror is None else _fields(self.items, self.mirror, "axis").integer(1) & 1
        return _ORIENTATIONS[axis][angle]


def read_picture(data: bytes, name: str, max_metadata_bytes: int) -> Picture:
    """Read the primary image of a file in the format `name`, and check that no decoder would produce more pixels.

    Raises UndecodableImage, UnsupportedImage (another kind of image) and ImageTooLarge (pixels or metadata).
    """
    try:
        items = read_items(data)
        if items.frames > 1:
            raise multiple_frames_error(name)
        return _read(items, name, max_metadata_bytes)
    except BrokenBoxError as error:
        raise UndecodableImage(f"The {name} is cut off, or its item tables are malformed: {error}.") from error


def for_decoder(picture: Picture) -> bytearray:
    """Copy the file with everything but the primary image hidden: EXIF, XMP, tracks and other images.

    No data is moved, since the tables contain offsets.
    """
    items = picture.items
    data = bytearray(items.data)
    for at in items.brands_at:
        data[at : at + 4] = picture.brand
    for box in items.skipped:
        data[box.start + 4 : box.start + 8] = b"free"
    images = CODECS["AVIF"] | CODECS["HEIC"] | {b"grid"}
    for number, item in items.by_number.items():
        if item.kind not in images:
            data[item.kind_at : item.kind_at + 4] = b"none"
        if number != items.primary:
            data[item.flags_at] |= 1  # hidden: part of an image, not an image by itself
    return data


def _read(items: Items, name: str, max_metadata_bytes: int) -> Picture:
    primary = items.by_number[items.primary]
    coded = [(items.primary, primary)]
    if primary.kind == b"grid":
        coded = [(number, _known(items, number)) for number in items.targets(b"dimg", items.primary)]
    kinds = {item.kind for _, item in coded}
    if not kinds or not kinds <= CODECS[name]:
        kind = next(iter(kinds - CODECS[name]), primary.kind).decode("latin-1")
        raise UnsupportedImage(f"{name} with a picture of type {kind!r} is not supported: save it again.")
    size = _size(items, primary)
    auxiliary = [_known(items, number) for number in items.sources(b"auxl", dict(coded).keys() | {items.primary})]
    alphas = [item for item in auxiliary if _auxiliary_kind(items, item) in _ALPHA]
    _check_coded(items, size, [item for _, item in coded])
    _check_coded(items, size, alphas)
    depth, is_grey = _samples(items, coded[0][1])
    return Picture(
        items,
        _STILL_BRANDS[name],
        size.width,
        size.height,
        depth,
        is_grey,
        has_alpha=bool(alphas),
        parts=_parts(items),
        crop=_crop(items, primary, size),
        turn=_property(primary, b"irot"),
        mirror=_property(primary, b"imir"),
        metadata=_metadata(items, primary, max_metadata_bytes),
    )


def _known(items: Items, number: int) -> Item:
    if number not in items.by_number:
        raise BrokenBoxError(f"item {number} is not in the list of items")
    return items.by_number[number]


def _fields(items: Items, box: Box | None, what: str) -> Fields:
    if box is None:
        raise BrokenBoxError(f"an image has no {what}")
    return Fields(items.data, box.body, box.end)


def _size(items: Items, item: Item) -> Size:
    fields = _fields(items, item.property(b"ispe"), "size")
    fields.take(4)
    return Size(fields.integer(4), fields.integer(4))


def _check_coded(items: Items, shown: Size, coded: list[Item]) -> None:
    # Decoders allocate the size stated in an item's stream, even if the tables state another.
    made = 0
    sizes: dict[int, int] = {}
    for item in coded:
        if id(item) not in sizes:
            sizes[id(item)] = max((size.pixels for size in _stream_sizes(items, item)), default=0)
        if not sizes[id(item)]:
            raise BrokenBoxError("the stream of an image does not state its size")
        made += sizes[id(item)]
    if made > _MAX_TIMES * shown.pixels + _SPARE_PIXELS:
        raise ImageTooLarge(
            f"The image states a size of {shown.width} x {shown.height}, but would decode to {made} pixels.",
            max_decoded_pixels=_MAX_TIMES * shown.pixels + _SPARE_PIXELS,
        )


def _stream_sizes(items: Items, item: Item) -> Iterator[Size]:
    if not item.extents:
        raise BrokenBoxError("an image's data is outside the file")
    content = items.content(item)
    yield _size(items, item)
    if item.kind == b"av01":
        sizes = list(av1_sizes(content))
        if not sizes:
            raise BrokenBoxError("the stream of an image has no header")
        yield from sizes
    else:
        box = item.property(b"hvcC")
        _fields(items, box, "decoder parameters")
        yield from hevc_sizes(b"" if box is None else items.data[box.body : box.end], content)


def _samples(items: Items, item: Item) -> tuple[int, bool]:
    # Returns the bits per sample and whether they are grey (AV1-ISOBMFF 2.3.3; ISO/IEC 14496-15, 8.3.3.1.2).
    if item.kind == b"av01":
        flags = _fields(items, item.property(b"av1C"), "decoder parameters").take(3)[2]
        depth = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
        return depth, bool(flags & 0x10)
    parameters = _fields(items, item.property(b"hvcC"), "decoder parameters").take(18)
    return 8 + (parameters[17] & 7), parameters[16] & 3 == 0


def _auxiliary_kind(items: Items, item: Item) -> bytes:
    fields = _fields(items, item.property(b"auxC"), "type")
    fields.take(4)
    return fields.text()


def _parts(items: Items) -> frozenset[str]:
    kinds = {_auxiliary_kind(items, item) for item in items.by_number.values() if item.property(b"auxC")}
    toned = {"gain-map" for item in items.by_number.values() if item.kind == b"tmap"}
    return frozenset(toned | {part for kind, part in _AUXILIARY_PARTS.items() if kind in kinds})


def _property(item: Item, kind: bytes) -> Box | None:
    box = item.property(kind)
    if box is not None and box.body == box.end:
        raise BrokenBoxError(f"a box {shown(kind)} is empty")
    return box


def _crop(items: Items, item: Item, size: Size) -> Crop:
    # Reads the clean aperture: width, height and the offset of its centre from the picture's centre, as fractions.
    whole = Crop(0, 0, size.width, size.height)
    box = item.property(b"clap")
    if box is None:
        return whole
    fields = _fields(items, box, "aperture")
    parts = [(_signed(fields.integer(4)), fields.integer(4)) for _ in range(4)]
    if any(over == 0 for _, over in parts):
        return whole
    width, height, right, down = (number / over for number, over in parts)
    left, top = (size.width - width) / 2 + right, (size.height - height) / 2 + down
    crop = Crop(*(int(number) for number in (left, top, width, height)))
    is_inside = crop.left + crop.width <= size.width and crop.top + crop.height <= size.height
    is_whole = (crop.left, crop.top, crop.width, crop.height) == (left, top, width, height)
    return crop if is_whole and is_inside and min(crop.left, crop.top) >= 0 < min(crop.width, crop.height) else whole


def _signed(number: int) -> int:
    return number - 2**32 if number >= 2**31 else number


def _metadata(items: Items, primary: Item, max_metadata_bytes: int) -> Metadata:
    colours = {items.data[box.body : box.body + 4]: box for box in reversed(primary.properties) if box.kind == b"colr"}
    profile = next((box for kind, box in colours.items() if kind in _PROFILES), None)
    check_metadata_size("colour profile", 0 if profile is None else profile.end - profile.body, max_metadata_bytes)
    block = xmp = None
    for number in items.sources(b"cdsc", {items.primary}):
        item = _known(items, number)
        if item.kind == b"Exif":
            check_metadata_size("EXIF", item.size, max_metadata_bytes)
            block = block or _exif_block(items.content(item))
        elif item.kind == b"mime" and item.content_type == _XMP:
            check_metadata_size("XMP", item.size, max_metadata_bytes)
            xmp = xmp or items.content(item)
    return Metadata(
        icc_profile=None if profile is None else items.data[profile.body + 4 : profile.end],
        exif=block or None,
        xmp=xmp or None,
        colour_chunks=() if profile is not None else code_points(items.data, colours.get(b"nclx")),
    )


def _exif_block(content: bytes) -> bytes:
    # The first four bytes give the offset of the TIFF header; some writers omit them or give a wrong offset.
    for at in (4 + int.from_bytes(content[:4], "big"), 4, 0):
        block = content[at:].removeprefix(exif.PREFIX)
        if block[:4] in tiff_directory.HEADERS:
            return block
    return b""
