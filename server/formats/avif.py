"""AVIF: AV1 pixels in boxes; its library is loaded when the first one comes."""

import io
from typing import Any

import numpy as np

from server.errors import InvalidImage, UndecodableImage, UnsupportedImage
from server.formats.base import Header, Planes, Samples, decode_with_opencv, planes_of
from server.formats.heif.picture import Crop, Picture, for_decoder, read_picture
from server.imaging.xmp import parts_of

NAME = "AVIF"


def read_header(data: bytes, max_metadata_bytes: int) -> Header:
    """Read the size, the orientation and the metadata from the item tables; no decoder sees them before."""
    plugin()
    return header_of(read_picture(data, NAME, max_metadata_bytes), NAME)


def header_of(picture: Picture, name: str) -> Header:
    """The header of a HEIF file, the picture not turned."""
    return Header(
        format=name,
        width=picture.crop.width,
        height=picture.crop.height,
        is_grey=picture.is_grey,
        has_alpha=picture.has_alpha,
        depth=picture.depth,
        orientation=picture.orientation,
        metadata=picture.metadata,
        parts=parts_of(picture.metadata.xmp) | picture.parts,
    )


def decode(data: bytes, header: Header) -> Planes:
    """Decode the pixels; 10 and 12 bits become 16."""
    picture = read_picture(data, NAME, len(data))
    shown = bytes(for_decoder(picture))
    if header.depth > 8:
        planes = planes_of(decode_with_opencv(shown, header), header)
        if planes.colour[0].dtype == np.uint8:
            raise UndecodableImage(f"The AVIF says that it has {header.depth} bits, and has 8.")
        return _cropped(stretched(planes, header.depth), picture.crop)
    try:
        bands = [np.asarray(band) for band in _opened(shown).split()]
    except InvalidImage:
        raise
    except Exception as error:  # parsers meet hostile bytes, and whatever they raise means the same
        raise UndecodableImage("The AVIF is cut off or damaged and cannot be decoded.") from error
    alpha = bands.pop() if len(bands) in (2, 4) else None
    return _cropped(Planes(tuple(bands), alpha), picture.crop)


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


def _cropped(planes: Planes, crop: Crop) -> Planes:
    rows, columns = slice(crop.top, crop.top + crop.height), slice(crop.left, crop.left + crop.width)
    alpha = None if planes.alpha is None else planes.alpha[rows, columns]
    return Planes(tuple(plane[rows, columns] for plane in planes.colour), alpha)


def stretched(planes: Planes, depth: int) -> Planes:
    """Bring samples as coded, of which 1023 is white in 10 bits, to the full range of their type."""
    factor = np.float32(65535 / (2**depth - 1))

    def stretch(samples: Samples) -> Samples:
        return samples if depth == 8 else np.rint(samples * factor).astype(np.uint16)

    return Planes(tuple(map(stretch, planes.colour)), None if planes.alpha is None else stretch(planes.alpha))
