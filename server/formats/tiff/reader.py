"""TIFF reader: strips or tiles described by a directory (TIFF 6.0)."""

import io
import struct
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import PIL.Image
from PIL import TiffImagePlugin

from server.errors import UndecodableImage, UnsupportedImage
from server.formats.base import Header, Planes, Samples, check_metadata_size
from server.formats.samples import ROWS_AT_ONCE, planes_of_picture
from server.formats.tiff import pages, tags
from server.formats.tiff.layout import Layout, check_extents, extents, layout_of
from server.imaging import colour, exif, orientation, tiff_directory
from server.imaging.metadata import Metadata
from server.imaging.tiff_directory import LONG, SHORT, BrokenDirectoryError, Directory, Entry, integer_entry

_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_SEPARATE = 2  # the value of PlanarConfiguration
_ALPHA = _PREMULTIPLIED, _UNASSOCIATED = 1, 2  # values of ExtraSamples; if it is absent, the second is assumed
_COMPRESSIONS = {1: "none", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 7: "JPEG", 8: "deflate"}
_COMPRESSIONS |= {32773: "PackBits", 32946: "deflate"}
_BYTE_COMPRESSIONS = frozenset({1, 5, 8, 32773, 32946})  # independent of the size of samples
_PREDICTED_COMPRESSIONS = frozenset({5, 8, 32946})
_HORIZONTAL = 2
_JPEG, _START_OF_SCAN, _MAX_SCANS = 7, b"\xff\xda", 16  # progressive photos have ten
_MAX_CHANNELS = 6  # RGB and three extra channels, which are ignored


def read_header(data: bytes, max_metadata_bytes: int) -> Header:
    """Read the picture's directory, and count the pages without smaller copies and masks."""
    directory, page_count = _picture(data)
    for tag, kind in ((tags.ICC_PROFILE, "colour profile"), (tags.XMP, "XMP")):
        check_metadata_size(kind, len(_raw(directory, tag)), max_metadata_bytes)
    depth = max(directory.integers(tags.BITS), default=1)
    _check_kind(directory, depth)
    layout = layout_of(directory)
    check_extents(layout, directory, len(data))
    photometric, channels = directory.integer(tags.PHOTOMETRIC, _BLACK_IS_ZERO), directory.integer(tags.CHANNELS, 1)
    xmp = _raw(directory, tags.XMP)
    turned_by = orientation.of_directory(directory) or orientation.of_xmp(xmp) or orientation.UPRIGHT
    block = exif.from_tiff(data, directory, is_upright=turned_by == orientation.UPRIGHT)
    check_metadata_size("EXIF", len(block or b""), max_metadata_bytes)
    is_grey = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    colours = 1 if is_grey else 3
    return Header(
        format="TIFF",
        width=directory.integer(tags.WIDTH, 0),
        height=directory.integer(tags.HEIGHT, 0),
        is_grey=is_grey,
        has_alpha=photometric <= _RGB
        and channels == colours + 1
        and directory.integer(tags.EXTRA_SAMPLES, _UNASSOCIATED) in _ALPHA,
        depth=depth,
        frames=page_count,
        orientation=turned_by,
        padded_pixels=layout.pixels,
        metadata=Metadata(
            icc_profile=_raw(directory, tags.ICC_PROFILE) or None,
            exif=block,
            xmp=xmp or None,
        ),
    )


def decode(data: bytes, header: Header) -> Planes:
    """Decode the pixels, CMYK as sRGB, with straight alpha; the decoder gets only the tags that affect pixels."""
    directory = _picture(data).picture
    layout = layout_of(directory)
    held = check_extents(layout, directory, len(data))
    if directory.integer(tags.COMPRESSION, 1) == _JPEG:
        _refuse_many_scans(data, layout, directory)
    if directory.integer(tags.COMPRESSION, 1) == 1 and held < _min_bytes(directory, header.depth):
        raise UndecodableImage("The TIFF is cut off: it has fewer bytes than its pixels need.")
    photometric = directory.integer(tags.PHOTOMETRIC, _BLACK_IS_ZERO)
    if directory.integer(tags.PLANAR, 1) == _SEPARATE and photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK):
        return _separate_planes(data, directory, header)
    if header.depth == 16:
        return _finished(_planes_of_16_bits(data, directory), directory, header)
    image = _opened(_with_directory(data, directory, {}))
    if image.mode not in _MODES:
        raise UnsupportedImage(f"TIFF with pixels of kind {image.mode} is not supported: save it as grey, RGB or RGBA.")
    if image.mode == "CMYK":
        return Planes(colour.cmyk_to_rgb(image, header.metadata.icc_profile), None)
    mode = ("L" if header.is_grey else "RGB") + ("A" if header.has_alpha else "")
    return planes_of_picture(image, mode)


def _refuse_many_scans(data: bytes, layout: Layout, directory: Directory) -> None:
    # Each scan costs a pass over all pixels of a strip or tile, however little data it contains. The bytes that start a
    # scan rarely occur elsewhere, and then only in tables.
    if any(data.count(_START_OF_SCAN, extent.start, extent.stop) > _MAX_SCANS for extent in extents(layout, directory)):
        raise UnsupportedImage(
            f"The TIFF contains JPEG data of more than {_MAX_SCANS} scans: save it again, not progressive."
        )


def _picture(data: bytes) -> pages.Pages:
    try:
        found = pages.find(data)
    except BrokenDirectoryError as error:
        raise UndecodableImage(f"The TIFF is cut off or damaged: {error}.") from error
    picture = found.picture
    if not picture.is_whole or picture.left_out & tags.PIXEL_TAGS:
        raise UndecodableImage(
            "The TIFF is cut off or damaged: a tag that affects its pixels occurs twice or is missing."
        )
    return found


def _min_bytes(directory: Directory, depth: int) -> int:
    # Returns the minimum size of the uncompressed pixels; YCbCr may be subsampled.
    width, height, channels = (directory.integer(tag, 1) for tag in (tags.WIDTH, tags.HEIGHT, tags.CHANNELS))
    is_full = directory.integer(tags.PHOTOMETRIC, _BLACK_IS_ZERO) <= _RGB
    return (width * depth * (channels if is_full else 1) + 7) // 8 * height


def _check_kind(directory: Directory, depth: int) -> None:
    compression = directory.integer(tags.COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        kinds = ", ".join(dict.fromkeys(_COMPRESSIONS.values()))
        raise UnsupportedImage(f"TIFF compressed by method {compression} is not supported: use one of {kinds}.")
    if set(directory.integers(tags.SAMPLE_FORMAT)) - {1} or depth not in (1, 2, 4, 8, 16):
        raise UnsupportedImage("TIFF with signed, floating or odd samples is not supported: use 8 or 16 bits.")
    photometric, channels = directory.integer(tags.PHOTOMETRIC, _BLACK_IS_ZERO), directory.integer(tags.CHANNELS, 1)
    if depth == 16:
        if photometric > _RGB or not 0 <= channels - (3 if photometric == _RGB else 1) <= 1:
            raise UnsupportedImage("TIFF of 16 bits is supported only as grey or RGB, with or without alpha.")
        if compression not in _BYTE_COMPRESSIONS or directory.integer(tags.PREDICTOR, 1) > _HORIZONTAL:
            raise UnsupportedImage("TIFF of 16 bits is supported only uncompressed or as LZW, deflate or PackBits.")
    if photometric == _CMYK and channels > 4 and directory.integer(tags.EXTRA_SAMPLES, 0) in _ALPHA:
        raise UnsupportedImage("TIFF of CMYK with alpha is not supported: save it as RGBA.")
    if channels > _MAX_CHANNELS:
        raise UnsupportedImage(f"TIFF with {channels} channels is not supported: at most {_MAX_CHANNELS} are.")


def _raw(directory: Directory, tag: int) -> bytes:
    return directory.entries[tag].raw if tag in directory.entries else b""


def _with_directory(data: bytes, directory: Directory, changes: Mapping[int, int | None]) -> bytes:
    # Returns the file with a new directory appended and its header pointing to it.
    layout = layout_of(directory)
    if layout.offsets == tags.STRIP_OFFSETS:
        changes = {**changes, tags.ROWS_PER_STRIP: layout.height}
    kept = [
        _first_values(entry, layout.pieces) if tag in tags.EXTENTS else entry
        for tag, entry in directory.entries.items()
        if tag in tags.PIXEL_TAGS and tag not in changes
    ]
    for tag, value in changes.items():
        if value is not None:
            kept.append(integer_entry(directory.order, tag, LONG, value))
    at = len(data) + len(data) % 2
    pointer = struct.pack(f"{directory.order}I", at)
    pieces = (data[:4], pointer, memoryview(data)[8:], bytes(at - len(data)))
    return b"".join((*pieces, tiff_directory.write(directory.order, kept, at)))


def _first_values(entry: Entry, count: int) -> Entry:
    each = len(entry.raw) // max(1, entry.count)
    return replace(entry, count=min(count, entry.count), raw=entry.raw[: count * each])


def _opened(data: bytes) -> PIL.Image.Image:
    try:
        image: PIL.Image.Image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    except SyntaxError as error:  # nearly always a combination of tags that Pillow does not know
        raise UnsupportedImage(
            "TIFF with pixels of this kind is not supported: save it as grey, RGB or RGBA of 8 or 16 bits."
        ) from error
    except Exception as error:  # hostile bytes can raise anything
        raise UndecodableImage("The TIFF is cut off or damaged and cannot be decoded.") from error
    try:
        image.load()
    except Exception as error:
        raise UndecodableImage("The TIFF is cut off or damaged and cannot be decoded.") from error
    return image


def _separate_planes(data: bytes, directory: Directory, header: Header) -> Planes:
    # Pillow misreads some kinds of separate planes and refuses others, so each is read as a grey picture of its own.
    is_cmyk = directory.integer(tags.PHOTOMETRIC, _BLACK_IS_ZERO) == _CMYK
    pieces = layout_of(directory).pieces // directory.integer(tags.CHANNELS, 1)
    planes: list[Samples] = []
    for number in range(4 if is_cmyk else (1 if header.is_grey else 3) + header.has_alpha):
        one = _one_plane(directory, number, pieces, header.depth)
        if header.depth == 16:
            planes += _planes_of_16_bits(data, one)
        else:
            planes += planes_of_picture(_opened(_with_directory(data, one, {})), "L").colour
    if is_cmyk:
        inks = PIL.Image.merge("CMYK", [PIL.Image.fromarray(plane) for plane in planes])
        return Planes(colour.cmyk_to_rgb(inks, header.metadata.icc_profile), None)
    return _finished(planes, directory, header)


def _one_plane(directory: Directory, number: int, pieces: int, depth: int) -> Directory:
    # Returns a directory that describes one of the separate planes as a grey picture.
    dropped = {tags.PLANAR, tags.EXTRA_SAMPLES, tags.SAMPLE_FORMAT, tags.INK_SET}
    entries = {tag: entry for tag, entry in directory.entries.items() if tag not in dropped}
    for tag in tags.EXTENTS & entries.keys():
        entry = entries[tag]
        each = len(entry.raw) // max(1, entry.count)
        start, stop = number * pieces, (number + 1) * pieces
        entries[tag] = replace(entry, count=pieces, raw=entry.raw[start * each : stop * each])
    for tag, value in ((tags.BITS, depth), (tags.CHANNELS, 1), (tags.PHOTOMETRIC, _BLACK_IS_ZERO)):
        entries[tag] = integer_entry(directory.order, tag, SHORT, value)
    return replace(directory, entries=entries)


def _planes_of_16_bits(data: bytes, directory: Directory) -> list[Samples]:
    # Pillow reduces 16-bit colour to 8 bits. So the directory is changed to describe every byte as a grey pixel, and
    # the decompressed bytes are joined to samples here.
    width, height, channels = (directory.integer(tag, 1) for tag in (tags.WIDTH, tags.HEIGHT, tags.CHANNELS))
    step = channels * 2
    changes: dict[int, int | None] = {tags.WIDTH: width * step, tags.BITS: 8, tags.CHANNELS: 1}
    changes[tags.PHOTOMETRIC] = _BLACK_IS_ZERO
    changes |= dict.fromkeys((tags.PREDICTOR, tags.EXTRA_SAMPLES, tags.PLANAR, tags.SAMPLE_FORMAT))
    tile_width = directory.integer(tags.TILE_WIDTH, 0)
    if tile_width:
        changes[tags.TILE_WIDTH] = tile_width * step
    image = _opened(_with_directory(data, directory, changes))
    is_predicted = directory.integer(tags.COMPRESSION, 1) in _PREDICTED_COMPRESSIONS
    adds_up = is_predicted and directory.integer(tags.PREDICTOR, 1) == _HORIZONTAL
    planes: list[Samples] = [np.empty((height, width), np.uint16) for _ in range(channels)]
    for top in range(0, height, ROWS_AT_ONCE):
        rows = slice(top, min(height, top + ROWS_AT_ONCE))
        part = np.asarray(image.crop((0, rows.start, width * step, rows.stop)))
        samples = part.view(f"{directory.order}u2").reshape(-1, width, channels).astype(np.uint16)
        for left in range(0, width, tile_width or width) if adds_up else ():
            piece = samples[:, left : left + (tile_width or width)]
            np.add.accumulate(piece, axis=1, dtype=np.uint16, out=piece)
        for channel, plane in enumerate(planes):
            plane[rows] = samples[:, :, channel]
    return planes


def _finished(planes: list[Samples], directory: Directory, header: Header) -> Planes:
    # Makes alpha straight and black zero.
    alpha = planes[-1] if header.has_alpha else None
    colours = planes[: 1 if header.is_grey else 3]
    if alpha is not None and directory.integer(tags.EXTRA_SAMPLES, 0) == _PREMULTIPLIED:
        for colour_plane in colours:
            _divide(colour_plane, alpha)
    if directory.integer(tags.PHOTOMETRIC, _BLACK_IS_ZERO) == _WHITE_IS_ZERO:
        for colour_plane in colours:
            np.invert(colour_plane, out=colour_plane)
    return Planes(tuple(colours), alpha)


def _divide(plane: Samples, alpha: Samples) -> None:
    full = np.float32(np.iinfo(plane.dtype).max)
    for top in range(0, len(plane), ROWS_AT_ONCE):
        rows = slice(top, top + ROWS_AT_ONCE)
        plane[rows] = np.minimum(np.rint(plane[rows] * (full / np.maximum(alpha[rows], 1))), full)
