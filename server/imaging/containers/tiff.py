"""TIFF: strips or tiles of pixels that a directory describes (TIFF 6.0)."""

import io
import struct
from collections.abc import Mapping

import numpy as np
import PIL.Image
from PIL import TiffImagePlugin

from server.errors import UndecodableImage, UnsupportedImage
from server.imaging import colour, exif, tiff_directory
from server.imaging.containers.base import Header, Planes, Samples, metadata_within
from server.imaging.metadata import Metadata
from server.imaging.tiff_directory import LONG, BrokenDirectoryError, Directory, integer_entry

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, CHANNELS, ROWS_PER_STRIP, STRIP_BYTES, PLANAR = 273, 277, 278, 279, 284
PREDICTOR, EXTRA_SAMPLES, XMP, ICC_PROFILE = 317, 338, 700, 34675

_INK_SET, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _SAMPLE_FORMAT = 332, 322, 323, 324, 325, 339
# Fill order, fax options, colour map, JPEG tables and YCbCr's constants: all else that makes pixels.
_MAKES_PIXELS = frozenset(
    {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIP_OFFSETS, CHANNELS, ROWS_PER_STRIP, STRIP_BYTES, PLANAR}
    | {PREDICTOR, EXTRA_SAMPLES, _INK_SET, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _SAMPLE_FORMAT}
    | {266, 292, 293, 320, 347, 529, 530, 531, 532}
)
_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_PREMULTIPLIED, _UNASSOCIATED = 1, 2  # and some writers do not say: then it is the usual one
_COMPRESSIONS = {1: "none", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 7: "JPEG", 8: "deflate"}
_COMPRESSIONS |= {32773: "PackBits", 32946: "deflate"}
_BYTE_COMPRESSIONS = frozenset({1, 5, 8, 32773, 32946})  # those that know nothing of samples
_PREDICTED_COMPRESSIONS = frozenset({5, 8, 32946})
_HORIZONTAL = 2
_MOST_TILE_SIDE = 16_384


def read_header(data: bytes, max_metadata_bytes: int) -> Header:
    """Read the first directory; a second one counts as a second page."""
    try:
        directory = tiff_directory.read_first(data)
    except BrokenDirectoryError as error:
        raise UndecodableImage(f"The TIFF is cut off or damaged: {error}.") from error
    for tag, kind in ((ICC_PROFILE, "colour profile"), (XMP, "XMP")):
        metadata_within(kind, len(_raw(directory, tag)), max_metadata_bytes)
    depth = max(directory.integers(BITS), default=1)
    _check_layout(data, directory, depth)
    photometric, channels = directory.integer(PHOTOMETRIC, _BLACK_IS_ZERO), directory.integer(CHANNELS, 1)
    block = exif.from_tiff(data, directory)
    metadata_within("EXIF", len(block or b""), max_metadata_bytes)
    is_grey = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    colours = 1 if is_grey else 3
    return Header(
        format="TIFF",
        width=directory.integer(WIDTH, 0),
        height=directory.integer(HEIGHT, 0),
        is_grey=is_grey,
        has_alpha=photometric <= _RGB
        and channels == colours + 1
        and directory.integer(EXTRA_SAMPLES, _UNASSOCIATED) in (1, 2),
        depth=depth,
        frames=1 if directory.next_offset == 0 else 2,
        orientation=exif.orientation_of(directory),
        metadata=Metadata(
            icc_profile=_raw(directory, ICC_PROFILE) or None,
            exif=block,
            xmp=_raw(directory, XMP) or None,
        ),
    )


def decode(data: bytes, header: Header) -> Planes:
    """Decode the pixels, CMYK as sRGB and the alpha not multiplied in; only tags that make pixels reach the decoder."""
    directory = tiff_directory.read_first(data)
    sizes = directory.integers(STRIP_BYTES) + directory.integers(_TILE_BYTES)
    if directory.integer(COMPRESSION, 1) == 1 and sum(sizes) < _least_bytes(directory, header.depth):
        raise UndecodableImage("The TIFF is cut off: it holds fewer bytes than pixels.")
    if header.depth == 16:
        return _planes_of_16_bits(data, directory, header)
    image = _opened(_with_directory(data, directory, {}))
    if image.mode not in _MODES:
        raise UnsupportedImage(f"TIFF with pixels of kind {image.mode} is not read: save it as grey, RGB or RGBA.")
    if image.mode == "CMYK":
        return Planes(colour.inks_as_rgb(image, header.metadata.icc_profile), None)
    mode = ("L" if header.is_grey else "RGB") + ("A" if header.has_alpha else "")
    bands = [np.asarray(band) for band in image.convert(mode).split()]
    alpha = bands.pop() if header.has_alpha else None
    return Planes(tuple(bands), alpha)


def _least_bytes(directory: Directory, depth: int) -> int:
    # Of the pixels, not compressed; YCbCr may leave colours out.
    width, height, channels = (directory.integer(tag, 1) for tag in (WIDTH, HEIGHT, CHANNELS))
    is_full = directory.integer(PHOTOMETRIC, _BLACK_IS_ZERO) <= _RGB
    return (width * depth * (channels if is_full else 1) + 7) // 8 * height


def _check_layout(data: bytes, directory: Directory, depth: int) -> None:
    compression = directory.integer(COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        kinds = ", ".join(dict.fromkeys(_COMPRESSIONS.values()))
        raise UnsupportedImage(f"TIFF compressed by method {compression} is not read: use one of {kinds}.")
    if set(directory.integers(_SAMPLE_FORMAT)) - {1} or depth not in (1, 2, 4, 8, 16):
        raise UnsupportedImage("TIFF with signed, floating or odd samples is not read: use 8 or 16 bits.")
    photometric, channels = directory.integer(PHOTOMETRIC, _BLACK_IS_ZERO), directory.integer(CHANNELS, 1)
    if depth == 16:
        interleaved = directory.integer(PLANAR, 1) == 1 or channels == 1
        if not interleaved or photometric > _RGB or not 0 <= channels - (3 if photometric == _RGB else 1) <= 1:
            raise UnsupportedImage("TIFF of 16 bits is read as interleaved grey or RGB, with or without alpha, only.")
        if compression not in _BYTE_COMPRESSIONS or directory.integer(PREDICTOR, 1) > _HORIZONTAL:
            raise UnsupportedImage("TIFF of 16 bits is read uncompressed, or as LZW, deflate or PackBits, only.")
    places = [
        place
        for offsets, sizes in ((STRIP_OFFSETS, STRIP_BYTES), (_TILE_OFFSETS, _TILE_BYTES))
        for place in zip(directory.integers(offsets), directory.integers(sizes), strict=False)
    ]
    if not places or any(offset + size > len(data) for offset, size in places):
        raise UndecodableImage("The TIFF is cut off: its pixels lie outside the file.")
    if max(directory.integer(_TILE_WIDTH, 1), directory.integer(_TILE_HEIGHT, 1)) > _MOST_TILE_SIDE:
        raise UnsupportedImage(f"TIFF with tiles of more than {_MOST_TILE_SIDE} pixels a side is not read.")


def _raw(directory: Directory, tag: int) -> bytes:
    return directory.entries[tag].raw if tag in directory.entries else b""


def _with_directory(data: bytes, directory: Directory, changes: Mapping[int, int | None]) -> bytes:
    # The same file with one more directory at its end, which its header points to instead.
    rows, height = directory.integer(ROWS_PER_STRIP, 0), directory.integer(HEIGHT, 1)
    if rows > height:  # "all rows" is often written as 2**32 - 1
        changes = {**changes, ROWS_PER_STRIP: height}
    kept = [entry for tag, entry in directory.entries.items() if tag in _MAKES_PIXELS and tag not in changes]
    for tag, value in changes.items():
        if value is not None:
            kept.append(integer_entry(directory.order, tag, LONG, value))
    at = len(data) + len(data) % 2
    pointer = struct.pack(f"{directory.order}I", at)
    pieces = (data[:4], pointer, memoryview(data)[8:], bytes(at - len(data)))
    return b"".join((*pieces, tiff_directory.write(directory.order, kept, at)))


def _opened(data: bytes) -> PIL.Image.Image:
    try:
        image: PIL.Image.Image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
        image.load()
    except Exception as error:  # parsers meet hostile bytes, and whatever they raise means the same
        raise UndecodableImage("The TIFF is cut off or damaged and cannot be decoded.") from error
    return image


def _planes_of_16_bits(data: bytes, directory: Directory, header: Header) -> Planes:
    # Pillow cuts 16-bit colour to 8, so it is told that each byte is a grey pixel: it unpacks them, and the samples are
    # put together here.
    width, height, channels = (directory.integer(tag, 1) for tag in (WIDTH, HEIGHT, CHANNELS))
    step = channels * 2
    changes: dict[int, int | None] = {WIDTH: width * step, BITS: 8, CHANNELS: 1, PHOTOMETRIC: _BLACK_IS_ZERO}
    changes |= dict.fromkeys((PREDICTOR, EXTRA_SAMPLES, PLANAR, _SAMPLE_FORMAT))
    tile_width = directory.integer(_TILE_WIDTH, 0)
    if tile_width:
        changes[_TILE_WIDTH] = tile_width * step
    image = _opened(_with_directory(data, directory, changes))
    kind = np.dtype(f"{directory.order}u2")
    samples = np.asarray(image).view(kind).reshape(height, width, channels).astype(np.uint16)
    if directory.integer(PREDICTOR, 1) == _HORIZONTAL and directory.integer(COMPRESSION, 1) in _PREDICTED_COMPRESSIONS:
        for left in range(0, width, tile_width or width):
            piece = samples[:, left : left + (tile_width or width)]
            np.add.accumulate(piece, axis=1, dtype=np.uint16, out=piece)
    bands: list[Samples] = [np.ascontiguousarray(samples[:, :, channel]) for channel in range(channels)]
    alpha = bands[-1] if header.has_alpha else None
    colours = bands[: 1 if header.is_grey else 3]
    if alpha is not None and directory.integer(EXTRA_SAMPLES, 0) == _PREMULTIPLIED:
        colours = [_divided(band, alpha) for band in colours]
    if directory.integer(PHOTOMETRIC, _BLACK_IS_ZERO) == _WHITE_IS_ZERO:
        colours = [np.invert(band) for band in colours]
    return Planes(tuple(colours), alpha)


def _divided(band: Samples, alpha: Samples) -> Samples:
    full = np.float32(65535)
    return np.minimum(np.rint(band * (full / np.maximum(alpha, 1))), full).astype(np.uint16)
