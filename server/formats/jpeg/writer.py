"""Baseline JPEG writer."""

import io

from server.formats.base import EncoderOptions, Planes
from server.formats.samples import in_eight_bits, on_white, picture_of
from server.imaging import exif
from server.imaging.metadata import Metadata

FULL_COLOUR_QUALITY = 90
"""From this quality on, chroma is not subsampled."""

_SEGMENT_BYTES = 65_000  # what one segment can hold, without the prefix of its content


def encode(planes: Planes, metadata: Metadata, options: EncoderOptions) -> bytes:
    """Encode grey or RGB planes in 8 bits; transparency is blended with white.

    EXIF and XMP that do not fit into one segment are left out.
    """
    metadata = metadata.with_profile(is_grey=planes.is_grey)
    block, xmp = (part if len(part) <= _SEGMENT_BYTES else b"" for part in (metadata.exif or b"", metadata.xmp or b""))
    file = io.BytesIO()
    picture_of(in_eight_bits(on_white(planes))).save(
        file,
        "JPEG",
        quality=options.quality,
        subsampling="4:4:4" if options.quality >= FULL_COLOUR_QUALITY else "4:2:0",
        icc_profile=metadata.icc_profile or b"",
        exif=block and exif.PREFIX + block,
        xmp=xmp,
    )
    return file.getvalue()
