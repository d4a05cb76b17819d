"""AVIF writer: 8 bits, or 10 bits for samples of more than 8 bits without alpha."""

import io
from dataclasses import replace
from typing import Any

import PIL.Image
from PIL import ExifTags

from server.formats.avif.deep_writer import can_write_deep, write_deep
from server.formats.avif.plugin import plugin
from server.formats.base import EncoderOptions, Planes
from server.formats.heif.code_points import CODE_POINTS_CHUNK, with_code_points
from server.formats.jpeg.writer import FULL_COLOUR_QUALITY
from server.formats.samples import in_colour, in_eight_bits, picture_of
from server.imaging.metadata import Metadata

_SPEED = 9  # measured in docs/images.md: the best trade of size against time
_LOSSLESS_ALPHA = {"alpha:lossless": "1"}


def encode(planes: Planes, metadata: Metadata, options: EncoderOptions) -> bytes:
    """Encode grey, RGB or RGBA planes; alpha is lossless except for bits beyond 8."""
    points = dict(metadata.colour_chunks).get(CODE_POINTS_CHUNK)
    if points is None:
        metadata = metadata.with_profile(is_grey=planes.is_grey)
    metadata = replace(metadata, exif=_without_orientation(metadata.exif or b"") or None)
    if planes.dtype.itemsize > 1 and planes.alpha is None and can_write_deep():
        data = write_deep(planes.colour, options.quality, _SPEED, metadata)
    else:
        data, metadata = _encode_eight_bits(in_eight_bits(planes), metadata, options.quality)
    points = dict(metadata.colour_chunks).get(CODE_POINTS_CHUNK)
    return with_code_points(data, points) if points and not metadata.icc_profile else data


def _encode_eight_bits(planes: Planes, metadata: Metadata, quality: int) -> tuple[bytes, Metadata]:
    # Returns the file, and the metadata that match its colours.
    plugin()
    if planes.alpha is not None:
        planes, metadata = in_colour(planes, metadata)
    subsampling = "4:4:4" if quality >= FULL_COLOUR_QUALITY else "4:2:0"
    more: dict[str, Any] = {} if planes.alpha is None else {"advanced": _LOSSLESS_ALPHA}
    file = io.BytesIO()
    picture_of(planes).save(
        file,
        "AVIF",
        quality=quality,
        speed=_SPEED,
        max_threads=1,
        subsampling="4:0:0" if planes.is_grey else subsampling,
        icc_profile=metadata.icc_profile or b"",
        exif=metadata.exif or b"",
        xmp=metadata.xmp or b"",
        **more,
    )
    return file.getvalue(), metadata


def _without_orientation(block: bytes) -> bytes:
    # Pillow rewrites the EXIF of an AVIF and fails if it is malformed; better an image without EXIF than none.
    try:
        tags = PIL.Image.Exif()
        tags.load(block)
        tags.pop(ExifTags.Base.Orientation, None)
        return tags.tobytes() if tags else b""
    except Exception:  # hostile bytes can raise anything
        return b""
