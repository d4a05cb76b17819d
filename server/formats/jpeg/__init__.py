"""JPEG: lossy, 8 bits, grey or RGB without alpha (ITU-T T.81)."""

from server.formats.base import Encoder, Format, starts_with
from server.formats.jpeg.markers import SOF, SOS, frame, walk
from server.formats.jpeg.reader import decode, is_quick, read_header
from server.formats.jpeg.writer import encode

# libjpeg allows 35 pixels less than the format (65 535), as headroom for its own arithmetic.
_LONGEST_SIDE = 65_500


def peek(start: bytes) -> tuple[int, int] | None:
    """Return (height, width) from the first frame header before the first scan."""
    for segment in walk(start):
        if segment.marker in SOF:
            read = frame(start, segment)
            return None if read is None else (read.height, read.width)
        if segment.marker == SOS:
            break
    return None


FORMAT = Format(
    name="JPEG",
    media_type="image/jpeg",
    suffixes=(".jpg", ".jpeg"),
    matches=starts_with(b"\xff\xd8\xff"),
    peek=peek,
    states_size_once=True,
    read_header=read_header,
    decode=decode,
    is_quick=is_quick,
    encoder=Encoder(encode, is_lossy=True, longest_side=_LONGEST_SIDE),
)
