"""AVIF reader: the header from the item tables, and pixels of 8, 10 or 12 bits."""

import io
from typing import Any

import numpy as np

from server.errors import InvalidImage, UndecodableImage
from server.formats.avif.plugin import plugin
from server.formats.base import Header, Planes
from server.formats.heif.conversion import header_of, to_full_range
from server.formats.heif.picture import Crop, for_decoder, read_picture
from server.formats.samples import decode_with_opencv, planes_of

NAME = "AVIF"


def read_header(data: bytes, max_metadata_bytes: int) -> Header:
    """Read the size, orientation and metadata from the item tables, without a decoder."""
    plugin()
    return header_of(read_picture(data, NAME, max_metadata_bytes), NAME)


def decode(data: bytes, header: Header) -> Planes:
    """Decode the pixels; samples of 10 and 12 bits become 16 bits."""
    picture = read_picture(data, NAME, len(data))
    shown = bytes(for_decoder(picture))
    if header.depth > 8:
        planes = planes_of(decode_with_opencv(shown, header), header)
        if planes.dtype == np.uint8:
            raise UndecodableImage(f"The AVIF states {header.depth} bits per sample but has 8.")
        return _cropped(to_full_range(planes, header.depth), picture.crop)
    try:
        bands = [np.asarray(band) for band in _opened(shown).split()]
    except InvalidImage:
        raise
    except Exception as error:  # hostile bytes can raise anything
        raise UndecodableImage("The AVIF is cut off or damaged and cannot be decoded.") from error
    alpha = bands.pop() if len(bands) in (2, 4) else None
    return _cropped(Planes(tuple(bands), alpha), picture.crop)


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
