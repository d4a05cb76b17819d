"""HEIC: HEVC pixels in the boxes of HEIF; its library comes with the extra `heif` and is loaded with the first one."""

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from server.errors import InvalidImage, UndecodableImage
from server.formats.avif import header_of, stretched
from server.formats.base import Header, Planes
from server.formats.heif.picture import Picture, for_decoder, read_picture

NAME = "HEIC"
EXTRA = "heif"

_PREMULTIPLIED = "RGBa"


def is_installed() -> bool:
    """Whether its library is there."""
    return find_spec("pillow_heif") is not None


def read_header(data: bytes, max_metadata_bytes: int) -> Header:
    """Read the size, the orientation and the metadata from the item tables, and the size as its library sees it."""
    picture = read_picture(data, NAME, max_metadata_bytes)
    height, width = _opened(picture).size[::-1]
    orientation = picture.orientation if _is_turned_here(picture) else 1
    return replace(header_of(picture, NAME), height=height, width=width, orientation=orientation)


def decode(data: bytes, header: Header) -> Planes:
    """Decode the pixels; more than 8 bits become 16."""
    image = _opened(read_picture(data, NAME, len(data)))
    try:
        samples = np.asarray(image.to_pillow().convert("RGBA") if image.mode == _PREMULTIPLIED else image)
    except Exception as error:  # parsers meet hostile bytes, and whatever they raise means the same
        raise UndecodableImage("The HEIC is cut off or damaged and cannot be decoded.") from error
    planes = [np.ascontiguousarray(plane) for plane in np.moveaxis(np.atleast_3d(samples), 2, 0)]
    alpha = planes.pop() if len(planes) in (2, 4) else None
    colour = planes[:1] if header.is_grey else planes  # its library makes three equal planes of grey with alpha
    return stretched(Planes(tuple(colour), alpha), header.depth)


def _opened(picture: Picture) -> Any:
    import pillow_heif

    pillow_heif.options.DECODE_THREADS = 1
    # Only the picture itself is looked at.
    pillow_heif.options.THUMBNAILS = pillow_heif.options.DEPTH_IMAGES = pillow_heif.options.AUX_IMAGES = False
    data = for_decoder(picture)
    if _is_turned_here(picture) and picture.turn is not None:
        data[picture.turn.body] = 0
    try:
        image = pillow_heif.open_heif(bytes(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
        if len(image) != 1:
            raise UndecodableImage("The HEIC has no picture, or several.")
    except InvalidImage:
        raise
    except Exception as error:  # as above
        raise UndecodableImage("The HEIC is cut off, or its header is damaged.") from error
    return image[0]


def _is_turned_here(picture: Picture) -> bool:
    # A quarter turn is made by the codec, as for all formats, so that the sizes in EXIF follow; its library turns where
    # a mirroring comes before or after it.
    return picture.mirror is None
