"""AVIF: lossy, 8 or 10 bits, with or without alpha; AV1 pixels in HEIF boxes (AV1-ISOBMFF, MIAF)."""

from server.formats.avif.deep_writer import DEPTH, can_write_deep
from server.formats.avif.reader import NAME, decode, read_header
from server.formats.avif.writer import encode
from server.formats.base import Encoder, Format
from server.formats.heif.brands import format_by_brands, is_heif

_LONGEST_SIDE = 32_768


def matches(start: bytes) -> bool:
    """Return whether a file is AVIF by its HEIF brands or, if these are ambiguous, by its codec."""
    return is_heif(start) and format_by_brands(start) == NAME


FORMAT = Format(
    name=NAME,
    media_type="image/avif",
    suffixes=(".avif",),
    matches=matches,
    read_header=read_header,
    decode=decode,
    encoder=Encoder(
        encode,
        is_lossy=True,
        longest_side=_LONGEST_SIDE,
        depth=DEPTH if can_write_deep() else 8,  # alpha of more than 8 bits would lose precision
        is_fast=False,
    ),
)
