"""Lossy writer: 8-bit pixels to JPEG, WebP and AVIF, and deeper ones to AVIF."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ExifTags

from server.errors import InvalidRequest
from server.formats import avif
from server.formats.deep_avif_writer import write_deep_avif
from server.formats.heif.code_points import with_code_points
from server.formats.output import OutputFormat
from server.imaging import exif
from server.imaging.metadata import Metadata

# libjpeg leaves 35 of the format's 65 535 for its own arithmetic.
LONGEST_SIDE = {OutputFormat.JPEG: 65_500, OutputFormat.WEBP: 16_383, OutputFormat.AVIF: 32_768}
"""Pixels; the lossless formats hold more than any decoder reads."""
# From here on colour is kept at full resolution: what is asked for is the picture, no longer the small file.
_FULL_COLOUR_QUALITY = 90
# Measured in docs/images.md: the knees of size against time.
_WEBP_METHOD = 2
_AVIF_SPEED = 9
_SEGMENT_BYTES = 65_000  # what one segment of a JPEG holds, less its prefix
_LOSSLESS_ALPHA = {"alpha:lossless": "1"}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def writes_deep(output: OutputFormat, *, has_alpha: bool) -> bool:
    """Whether samples of more than 8 bits keep them: in AVIF, whose deep alpha could not be kept without loss."""
    return output is OutputFormat.AVIF and not has_alpha and hasattr(cv2, "imencodeWithMetadata")


def write_deep(output: OutputFormat, planes: Sequence[NDArray[np.uint16]], quality: int, metadata: Metadata) -> bytes:
    """Encode one grey (H, W) plane or three of RGB; raises InvalidRequest as `write_lossy` does."""
    _hold_sides(output, *planes[0].shape)
    notes = replace(metadata, exif=_without_orientation(metadata.exif or b"") or None)
    return write_deep_avif(list(planes), quality, _AVIF_SPEED, notes)


def write_lossy(output: OutputFormat, pixels: NDArray[np.uint8], quality: int, metadata: Metadata) -> bytes:
    """Encode (H, W, C) pixels, C = 1 grey, 3 RGB or 4 RGBA (not JPEG); the alpha loses nothing.

    Raises InvalidRequest if a side is longer than the format can hold.
    """
    height, width, channels = pixels.shape
    _hold_sides(output, height, width)
    image = PIL.Image.frombuffer(_MODES[channels], (width, height), pixels, "raw", _MODES[channels], 0, 1)
    options: dict[str, Any] = {"quality": quality, "icc_profile": metadata.icc_profile or b""}
    block, xmp = metadata.exif or b"", metadata.xmp or b""
    subsampling = "4:4:4" if quality >= _FULL_COLOUR_QUALITY else "4:2:0"
    if output is OutputFormat.JPEG:
        block, xmp = (part if len(part) <= _SEGMENT_BYTES else b"" for part in (block, xmp))
        block = block and exif.PREFIX + block
        options |= {"subsampling": subsampling}
    elif output is OutputFormat.WEBP:
        options |= {"method": _WEBP_METHOD, "exact": True}  # exact: also what is transparent keeps its colour
    else:
        avif.plugin()
        block = _without_orientation(block)
        options |= {"speed": _AVIF_SPEED, "max_threads": 1, "subsampling": "4:0:0" if channels < 3 else subsampling}
        if channels == 4:
            options["advanced"] = _LOSSLESS_ALPHA
    file = io.BytesIO()
    image.save(file, output.name, exif=block, xmp=xmp, **options)
    points = dict(metadata.colour_chunks).get(b"cICP")
    if output is OutputFormat.AVIF and points and not options["icc_profile"]:
        return with_code_points(file.getvalue(), points)
    return file.getvalue()


def _hold_sides(output: OutputFormat, height: int, width: int) -> None:
    longest = LONGEST_SIDE[output]
    if max(height, width) > longest:
        raise InvalidRequest(f"{output.name} holds at most {longest} pixels a side: ask for PNG.")


def _without_orientation(block: bytes) -> bytes:
    # Pillow writes AVIF's EXIF anew, which a broken block would fail: it is worth less than the image.
    try:
        tags = PIL.Image.Exif()
        tags.load(block)
        tags.pop(ExifTags.Base.Orientation, None)
        return tags.tobytes() if tags else b""
    except Exception:  # parsers meet hostile bytes, and whatever they raise means the same
        return b""
