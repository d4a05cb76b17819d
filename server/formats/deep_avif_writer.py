"""Deep AVIF writer: samples of 16 bits to an AVIF of 10, which is what viewers read."""

import cv2
import numpy as np
from numpy.typing import NDArray

from server.formats.heif.code_points import with_code_points
from server.imaging.metadata import Metadata

DEPTH = 10

_SCALE = (2**DEPTH - 1) / 65_535
_CODE_POINTS = b"cICP"


def write_deep_avif(planes: list[NDArray[np.uint16]], quality: int, speed: int, metadata: Metadata) -> bytes:
    """Encode one grey (H, W) plane, or red, green and blue; at quality 100 without a further loss."""
    # OpenCV's one-pass scale and round.
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
    points = dict(metadata.colour_chunks).get(_CODE_POINTS)
    return with_code_points(data, points) if points and not metadata.icc_profile else data
