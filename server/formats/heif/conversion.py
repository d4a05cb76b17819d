"""Conversions shared by AVIF and HEIC: HEIF pictures to headers, and samples to their full range."""

import numpy as np

from server.formats.base import Header, Planes, Samples
from server.formats.heif.picture import Picture
from server.imaging.xmp import parts_of


def header_of(picture: Picture, name: str) -> Header:
    """Build the header of a HEIF file, with the size before orientation."""
    return Header(
        format=name,
        width=picture.crop.width,
        height=picture.crop.height,
        is_grey=picture.is_grey,
        has_alpha=picture.has_alpha,
        depth=picture.depth,
        orientation=picture.orientation,
        metadata=picture.metadata,
        parts=parts_of(picture.metadata.xmp) | picture.parts,
    )


def to_full_range(planes: Planes, depth: int) -> Planes:
    """Scale samples of more than 8 bits to the full range of 16 bits, for example 1023 in 10 bits to 65535."""
    factor = np.float32(65535 / (2**depth - 1))

    def scale(samples: Samples) -> Samples:
        return samples if depth == 8 else np.rint(samples * factor).astype(np.uint16)

    return Planes(tuple(map(scale, planes.colour)), None if planes.alpha is None else scale(planes.alpha))
