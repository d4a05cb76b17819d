"""HEIC: HEVC pixels in HEIF boxes; read-only, with the library that the extra `heif` installs."""

from typing import Any

import numpy as np

from server.errors import InvalidImage, UndecodableImage
from server.formats.base import Format, Header, Planes
from server.formats.heif.brands import format_by_brands, is_heif
from server.formats.heif.conversion import header_of, to_full_range
from server.formats.heif.picture import Picture, for_decoder, read_picture

NAME = "HEIC"

_PREMULTIPLIED = "RGBa"


def matches(start: bytes) -> bool:
    """Return whether a file is HEIC by its HEIF brands or, if these are ambiguous, by its codec."""
    return is_heif(start) and format_by_brands(start) == NAME


def read_header(data: bytes, max_metadata_bytes: int) -> Header:
    """Read the orientation and metadata from the item tables, and the decoded size from the library."""
    picture = read_picture(data, NAME, max_metadata_bytes)
    height, width = _opened(picture).size[::-1]
    orientation = picture.orientation if _is_turned_by_codec(picture) else 1
    return header_of(picture, NAME)._replace(height=height, width=width, orientation=orientation)


def decode(data: bytes, header: Header) -> Planes:
    """Decode the pixels; samples of more than 8 bits become 16 bits."""
    image = _opened(read_picture(data, NAME, len(data)))
    try:
        samples = np.asarray(image.to_pillow().convert("RGBA") if image.mode == _PREMULTIPLIED else image)
    except Exception as error:  # hostile bytes can raise anything
        raise UndecodableImage("The HEIC is cut off or damaged and cannot be decoded.") from error
    planes = [np.ascontiguousarray(plane) for plane in np.moveaxis(np.atleast_3d(samples), 2, 0)]
    alpha = planes.pop() if len(planes) in (2, 4) else None
    colour = planes[:1] if header.is_grey else planes  # the library returns three equal planes for grey with alpha
    return to_full_range(Planes(tuple(colour), alpha), header.depth)


def _opened(picture: Picture) -> Any:
    import pillow_heif

    pillow_heif.options.DECODE_THREADS = 1
    # Only the primary picture is read.
    pillow_heif.options.THUMBNAILS = pillow_heif.options.DEPTH_IMAGES = pillow_heif.options.AUX_IMAGES = False
    data = for_decoder(picture)
    if _is_turned_by_codec(picture) and picture.turn is not None:
        data[picture.turn.body] = 0
    try:
        image = pillow_heif.open_heif(bytes(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
        if len(image) != 1:
            raise UndecodableImage("The HEIC contains no picture, or more than one.")
    except InvalidImage:
        raise
    except Exception as error:  # as above
        raise UndecodableImage("The HEIC is cut off, or its header is damaged.") from error
    return image[0]


def _is_turned_by_codec(picture: Picture) -> bool:
    # Our codec applies plain quarter turns, as for every format, so that it can swap the sizes in the EXIF too. The
    # library applies turns combined with mirroring.
    return picture.mirror is None


FORMAT = Format(
    name=NAME,
    media_type="image/heic",
    suffixes=(".heic", ".heif"),
    matches=matches,
    read_header=read_header,
    decode=decode,
    library="pillow_heif",
    extra="heif",
)
