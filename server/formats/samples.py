"""Conversions between planes and the pixels of OpenCV and Pillow."""

from collections.abc import Sequence
from typing import Any, cast

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from server.errors import UndecodableImage
from server.formats.base import Header, JoinedPlanes, Planes, Samples
from server.imaging import colour
from server.imaging.metadata import Metadata

ROWS_AT_ONCE = 256
"""Rows converted per step, so that temporary copies stay small compared to a large photo."""

_EIGHT_BITS = np.dtype(np.uint8)
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def decode_with_opencv(data: bytes | NDArray[np.uint8], header: Header, mode: int = cv2.IMREAD_UNCHANGED) -> Samples:
    """Decode to (H, W) grey or (H, W, 3 or 4) BGR samples of 8 or 16 bits; raises UndecodableImage."""
    try:
        samples: Any = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error as error:
        raise UndecodableImage(f"The {header.format} is damaged and cannot be decoded.") from error
    if samples is None or samples.dtype not in (np.uint8, np.uint16):
        raise UndecodableImage(f"The {header.format} is cut off or damaged and cannot be decoded.")
    return samples  # type: ignore[no-any-return]  # OpenCV's stubs do not know the sample type


def planes_of(samples: Samples, header: Header) -> Planes:
    """Split OpenCV's samples into planes; drops unused alpha and equal colours according to the header."""
    if samples.ndim == 2:
        return Planes((samples,), None)
    height, width, channels = samples.shape
    if header.is_grey:
        alpha = cv2.extractChannel(samples, 3) if channels == 4 and header.has_alpha else None
        return Planes((cast(Samples, cv2.extractChannel(samples, 1)),), cast(Samples | None, alpha))
    colours = JoinedPlanes(np.empty((3, height, width), samples.dtype))
    parts: Any = [*colours[::-1], *(np.empty((height, width), samples.dtype) for _ in range(channels - 3))]
    cv2.split(samples, parts)  # its own arrays take the interpreter lock twice each, and several times as long
    return Planes(colours, parts[3] if channels == 4 and header.has_alpha else None)


def interleaved(planes: Sequence[Samples]) -> Samples:
    """Merge planes (H, W) of one type into pixels (H, W, C)."""
    channels: Any = planes
    pixels: Any = np.empty((*channels[0].shape, len(channels)), channels[0].dtype)
    cv2.merge(channels, pixels)  # as in `planes_of`
    return pixels  # type: ignore[no-any-return]  # OpenCV's stubs do not know the sample type


def planes_of_picture(picture: PIL.Image.Image, mode: str) -> Planes:
    """Convert a Pillow image to L, LA, RGB or RGBA and split it into planes, a band of rows at a time."""
    width, height = picture.size
    planes = [np.empty((height, width), np.uint8) for _ in mode]
    for top in range(0, height, ROWS_AT_ONCE):
        bottom = min(height, top + ROWS_AT_ONCE)
        band = np.asarray(picture.crop((0, top, width, bottom)).convert(mode)).reshape(bottom - top, width, len(mode))
        parts: Any = [plane[top:bottom] for plane in planes]
        cv2.split(band, parts)
    alpha = planes.pop() if mode.endswith("A") else None
    return Planes(tuple(planes), alpha)


def picture_of(planes: Planes) -> PIL.Image.Image:
    """Convert planes of 8 bits to a Pillow image (L, RGB or RGBA); grey must have no alpha."""
    channels: Any = planes.all
    height, width = channels[0].shape
    mode = _MODES[len(channels)]
    return PIL.Image.frombuffer(mode, (width, height), interleaved(channels), "raw", mode, 0, 1)


def in_eight_bits(planes: Planes) -> Planes:
    """Convert samples of 16 bits to 8, rounded to nearest; returns 8-bit planes unchanged."""
    alpha = None if planes.alpha is None else _eight_bits(planes.alpha)
    return Planes(tuple(_eight_bits(plane) for plane in planes.colour), alpha)


def on_white(planes: Planes) -> Planes:
    """Blend transparent pixels with white, and drop the alpha."""
    if planes.alpha is None:
        return planes
    return Planes(tuple(_on_white(plane, planes.alpha) for plane in planes.colour), None)


def in_colour(planes: Planes, metadata: Metadata) -> tuple[Planes, Metadata]:
    """Convert grey planes of 8 bits to three sRGB planes, for formats without grey; drops the grey profile."""
    if not planes.is_grey:
        return planes, metadata
    colours: tuple[Any, ...] = planes.colour * 3
    if metadata.icc_profile is not None:
        colours = colour.to_srgb(cast(Any, planes.colour), metadata.icc_profile) or colours
    return Planes(colours, planes.alpha), metadata.without_colour()


def _on_white(plane: Samples, alpha: Samples) -> Samples:
    white, opaque = np.float32(np.iinfo(plane.dtype).max), np.float32(np.iinfo(alpha.dtype).max)
    shown = np.empty_like(plane)
    for top in range(0, len(plane), ROWS_AT_ONCE):
        rows = slice(top, top + ROWS_AT_ONCE)
        below = (plane[rows] - white) * (alpha[rows] / opaque)
        shown[rows] = np.rint(white + below)
    return shown


def _eight_bits(plane: Samples) -> Samples:
    # OpenCV scales, rounds and casts in one pass.
    return plane if plane.dtype == _EIGHT_BITS else cast(Samples, cv2.convertScaleAbs(plane, alpha=1 / 257))
