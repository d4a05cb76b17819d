"""TIFF: reads many variants, writes losslessly in 8 or 16 bits, with or without alpha (TIFF 6.0)."""

from server.formats.base import Encoder, EncoderOptions, Format, Planes, starts_with
from server.formats.tiff.reader import decode, read_header
from server.formats.tiff.writer import write_tiff
from server.imaging.metadata import Metadata
from server.imaging.tiff_directory import HEADERS


def encode(planes: Planes, metadata: Metadata, options: EncoderOptions) -> bytes:
    """Encode planes of 8 or 16 bits without loss."""
    return write_tiff(planes.all, metadata.with_profile(is_grey=planes.is_grey))


FORMAT = Format(
    name="TIFF",
    media_type="image/tiff",
    suffixes=(".tif", ".tiff"),
    matches=starts_with(*HEADERS),
    read_header=read_header,
    decode=decode,
    encoder=Encoder(encode, is_lossy=False, depth=16, depth_with_alpha=16),
)
