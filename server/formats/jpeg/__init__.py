"""JPEG: lossy, 8 bits, grey or RGB without alpha (ITU-T T.81)."""

from server.formats.base import Encoder, Format, starts_with
from server.formats.jpeg import markers
from server.formats.jpeg.reader import decode, read_header
from server.formats.jpeg.writer import encode

# libjpeg allows 35 pixels less than the format (65 535), as headroom for its own arithmetic.
_LONGEST_SIDE = 65_500


def peek(start: bytes) -> tuple[int, int] | None:
    """Return (height, width) from the first frame header before the first scan."""
    for segment in markers.walk(start):
        if segment.marker in markers.SOF:
            frame = markers.frame(start, segment)
            return None if frame is None else (frame.height, frame.width)
        if segment.marker == markers.SOS:
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
    encoder=Encoder(encode, is_lossy=True, longest_side=_LONGEST_SIDE),
)
