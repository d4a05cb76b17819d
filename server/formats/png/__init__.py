"""PNG: lossless, 8 or 16 bits, with or without alpha (PNG specification, third edition)."""

import struct

from server.formats.base import Encoder, EncoderOptions, Format, Planes, starts_with
from server.formats.png.reader import decode, is_quick, read_header
from server.formats.png.writer import SIGNATURE, write_png
from server.imaging.metadata import Metadata


def peek(start: bytes) -> tuple[int, int] | None:
    """Read (height, width) from IHDR, the first chunk."""
    kind, width, height = struct.unpack_from(">4sII", start, 12)
    return (height, width) if kind == b"IHDR" else None


def encode(planes: Planes, metadata: Metadata, options: EncoderOptions) -> bytes:
    """Encode planes of 8 or 16 bits without loss."""
    return write_png(planes.all, metadata, options.effort)


FORMAT = Format(
    name="PNG",
    media_type="image/png",
    suffixes=(".png",),
    matches=starts_with(SIGNATURE),
    peek=peek,
    states_size_once=True,
    read_header=read_header,
    decode=decode,
    is_quick=is_quick,
    encoder=Encoder(encode, is_lossy=False, depth=16, depth_with_alpha=16),
)
