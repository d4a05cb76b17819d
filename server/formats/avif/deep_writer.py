"""Deep AVIF writer: samples of 16 bits to an AVIF file of 10 bits, the depth that viewers read."""

from collections.abc import Sequence

import cv2
import numpy as np

from server.formats.base import Samples
from server.imaging.metadata import Metadata

DEPTH = 10
"""Bits per sample."""

_SCALE = (2**DEPTH - 1) / 65_535


def can_write_deep() -> bool:
    """Return whether the installed OpenCV can write AVIF of more than 8 bits together with metadata."""
    return hasattr(cv2, "imencodeWithMetadata")


def write_deep(planes: Sequence[Samples], quality: int, speed: int, metadata: Metadata) -> bytes:
    """Encode one grey plane (H, W) uint16, or red, green and blue; quality 100 loses nothing beyond the 10 bits."""
    # OpenCV scales and rounds in one pass.
    scaled = [cv2.addWeighted(plane, _SCALE, plane, 0.0, 0.0, dtype=cv2.CV_16U) for plane in reversed(planes)]
    kinds = (
        (cv2.IMAGE_METADATA_EXIF, metadata.exif),
        (cv2.IMAGE_METADATA_XMP, metadata.xmp),
        (cv2.IMAGE_METADATA_ICCP, metadata.icc_profile),
    )
    notes = [(kind, np.frombuffer(body, np.uint8)) for kind, body in kinds if body]
    settings = [cv2.IMWRITE_AVIF_DEPTH, DEPTH, cv2.IMWRITE_AVIF_QUALITY, quality, cv2.IMWRITE_AVIF_SPEED, speed]
    _, encoded = cv2.imencodeWithMetadata(
        ".avif", cv2.merge(scaled), [kind for kind, _ in notes], [body for _, body in notes], settings
    )
    data: bytes = encoded.tobytes()
    return data
