"""AVIF: AV1 pixels in boxes; its library is loaded when the first one comes."""

import io
import re
from contextlib import suppress
from typing import Any

import numpy as np

from server.errors import InvalidImage, UndecodableImage, UnsupportedImage
from server.imaging import exif, tiff_directory
from server.imaging.containers.base import Header, Planes, Samples, decode_with_opencv, metadata_within, planes_of
from server.imaging.metadata import Metadata

_CONFIGURATION = re.compile(rb"av1C\x81.(.)", re.DOTALL)  # of each coded item: marker, profile, flags (AV1-ISOBMFF 2.3)
_HIGH_DEPTH, _TWELVE, _MONOCHROME = 0x40, 0x20, 0x10
_BOXES_BYTES = 65_536  # where the configurations of an image are found; its pixels follow
_TIFF_HEADER = re.compile(rb"II\*\0|MM\0\*|MM\*\0|II\0\*|MM\0\+|II\+\0")
_MOST_TIFF_HEADERS = 16


def read_header(data: bytes, max_metadata_bytes: int) -> Header:
    """Read the size, the orientation of the boxes or of EXIF, and the metadata."""
    _check_directories(data)
    image = _opened(data)
    flags = [found[1][0] for found in _CONFIGURATION.finditer(data, 0, _BOXES_BYTES)]
    for kind in ("icc_profile", "exif", "xmp"):
        metadata_within(kind, len(image.info.get(kind, b"")), max_metadata_bytes)
    block = image.info.get("exif", b"").removeprefix(exif.PREFIX)
    return Header(
        format="AVIF",
        width=image.size[0],
        height=image.size[1],
        is_grey=image.mode in ("L", "LA"),
        has_alpha=image.mode in ("LA", "RGBA"),
        depth=max((_depth(flag) for flag in flags), default=8),
        frames=image.n_frames,
        orientation=exif.orientation(block),
        metadata=Metadata(
            icc_profile=image.info.get("icc_profile"),
            exif=block or None,
            xmp=image.info.get("xmp"),
        ),
    )


def decode(data: bytes, header: Header) -> Planes:
    """Decode the pixels; 10 and 12 bits become 16 where OpenCV has AVIF, and 8 where it has not."""
    if header.depth > 8:
        with suppress(InvalidImage):
            return _stretched(planes_of(decode_with_opencv(data, header), header), header.depth)
    try:
        bands = [np.asarray(band) for band in _opened(data).split()]
    except InvalidImage:
        raise
    except Exception as error:  # parsers meet hostile bytes, and whatever they raise means the same
        raise UndecodableImage("The AVIF is cut off or damaged and cannot be decoded.") from error
    alpha = bands.pop() if header.has_alpha else None
    return Planes(tuple(bands), alpha)


def plugin() -> Any:
    """Pillow's AVIF module, without threads of its own; raises UnsupportedImage where Pillow is built without it."""
    from PIL import AvifImagePlugin

    if not AvifImagePlugin.SUPPORTED:
        raise UnsupportedImage("AVIF is not part of this server's build: use another format.")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    return AvifImagePlugin


def _opened(data: bytes) -> Any:
    module = plugin()
    try:
        return module.AvifImageFile(io.BytesIO(data))
    except Exception as error:  # as above
        raise UndecodableImage("The AVIF is cut off, or its header is damaged.") from error


def _check_directories(data: bytes) -> None:
    # Pillow copies every value of every EXIF tag, however they overlap: a megabyte of tags could take all memory.
    for number, match in enumerate(_TIFF_HEADER.finditer(data)):
        try:
            tiff_directory.read_first_strictly(data[match.start() :])
        except tiff_directory.BrokenDirectoryError as error:
            raise UndecodableImage("The AVIF has damaged EXIF.") from error
        if number == _MOST_TIFF_HEADERS:
            raise UndecodableImage("The AVIF has more EXIF than one image can have.")


def _depth(flags: int) -> int:
    if not flags & _HIGH_DEPTH:
        return 8
    return 12 if flags & _TWELVE else 10


def _stretched(planes: Planes, depth: int) -> Planes:
    # OpenCV answers the values as coded: 1023 is white in 10 bits. Decoded to 8 bits they are whole already.
    factor = np.float32(65535 / (2**depth - 1))

    def stretch(samples: Samples) -> Samples:
        return samples if samples.dtype == np.uint8 else np.rint(samples * factor).astype(np.uint16)

    return Planes(tuple(map(stretch, planes.colour)), None if planes.alpha is None else stretch(planes.alpha))
