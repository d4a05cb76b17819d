"""10-bit AVIF writer for 16-bit samples; viewers read no deeper AVIF."""

from collections.abc import Sequence

import cv2
import numpy as np

from server.formats.base import Samples
from server.formats.samples import interleaved
from server.imaging.metadata import Metadata

DEPTH = 10
"""Bits per sample."""

_SCALE = (2**DEPTH - 1) / 65_535


def can_write_deep() -> bool:
    """Return whether the installed OpenCV can write AVIF of more than 8 bits together with metadata."""
    return hasattr(cv2, "imencodeWithMetadata")


def write_deep(planes: Sequence[Samples], quality: int, speed: int, metadata: Metadata) -> bytes:
    """Encode grey or RGB planes, (H, W) uint16; at quality 100 only the reduction to 10 bits loses precision."""
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
        ".avif", interleaved(scaled), [kind for kind, _ in notes], [body for _, body in notes], settings
    )
    data: bytes = encoded.tobytes()
    return data
