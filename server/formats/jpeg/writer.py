"""Baseline JPEG writer."""

from collections.abc import Iterator
from typing import Any

import cv2

from server.formats.base import EncoderOptions, Planes
from server.formats.jpeg.markers import APP1, APP2, segment_bytes
from server.formats.jpeg.pictures import XMP_PREFIX
from server.formats.jpeg.reader import ICC_PREFIX
from server.formats.samples import in_eight_bits, interleaved, on_white
from server.imaging import exif
from server.imaging.metadata import Metadata

FULL_COLOUR_QUALITY = 90
"""From this quality on, chroma is not subsampled."""

_SEGMENT_BYTES = 65_000  # what one segment can hold, without the prefix of its content
_START_BYTES = 20  # SOI and JFIF's APP0, which must come first (ITU-T T.871, section 10.1)


def encode(planes: Planes, metadata: Metadata, options: EncoderOptions) -> bytes:
    """Encode grey or RGB planes in 8 bits; transparency is blended with white.

    EXIF and XMP that do not fit into one segment are left out. OpenCV encodes without the interpreter lock, which
    Pillow holds; the files are the same to the byte.
    """
    full = options.quality >= FULL_COLOUR_QUALITY or planes.is_grey
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if full else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    parameters = [cv2.IMWRITE_JPEG_QUALITY, options.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    shown: Any = in_eight_bits(on_white(planes)).colour
    written, coded = cv2.imencode(".jpg", shown[0] if planes.is_grey else interleaved(shown[::-1]), parameters)
    if not written:
        raise RuntimeError("OpenCV wrote no JPEG")
    file = coded.data
    segments = _segments(metadata.with_profile(is_grey=planes.is_grey))
    return b"".join((file[:_START_BYTES], *segments, file[_START_BYTES:]))


def _segments(metadata: Metadata) -> Iterator[bytes]:
    for prefix, body in ((exif.PREFIX, metadata.exif), (XMP_PREFIX, metadata.xmp)):
        if body and len(body) <= _SEGMENT_BYTES:
            yield segment_bytes(APP1, prefix + body)
    profile = metadata.icc_profile or b""
    pieces = [profile[at : at + _SEGMENT_BYTES] for at in range(0, len(profile), _SEGMENT_BYTES)]
    for number, piece in enumerate(pieces, 1):  # ICC.1:2022, B.4
        yield segment_bytes(APP2, ICC_PREFIX + bytes((number, len(pieces))) + piece)
