"""BMP: pixels behind a small header."""

import io

import numpy as np
import PIL.Image
from PIL import BmpImagePlugin

from server.errors import UndecodableImage
from server.imaging.containers.base import Header, Planes, decode_with_opencv, planes_of


def read_header(data: bytes, max_metadata_bytes: int) -> Header:
    """Read the size; there is no metadata."""
    image = _opened(data)
    width, height = image.size
    return Header("BMP", width, height, is_grey=image.mode in ("1", "L"), has_alpha=image.mode == "RGBA")


def decode(data: bytes, header: Header) -> Planes:
    """Decode the pixels."""
    if header.has_alpha:  # OpenCV reads the four channels only in one of their orders
        try:
            *colour, alpha = (np.asarray(band) for band in _opened(data).split())
        except UndecodableImage:
            raise
        except Exception as error:  # parsers meet hostile bytes, and whatever they raise means the same
            raise UndecodableImage("The BMP is cut off or damaged and cannot be decoded.") from error
        return Planes(tuple(colour), alpha)
    return planes_of(decode_with_opencv(data, header), header)


def _opened(data: bytes) -> PIL.Image.Image:
    try:
        return BmpImagePlugin.BmpImageFile(io.BytesIO(data))
    except Exception as error:  # as above
        raise UndecodableImage("The upload begins like a BMP file but its header cannot be read.") from error
