"""WebP: its chunks around the pixels (RFC 9649)."""

import struct
from collections.abc import Iterator

from server.errors import UndecodableImage
from server.formats.base import Header, Planes, decode_with_opencv, metadata_within, planes_of
from server.imaging import exif
from server.imaging.metadata import Metadata

_MOST_CHUNKS = 1024  # an animation has three for each frame, and is refused anyway
_ALPHA_FLAG = 0x10
_KEY_FRAME = b"\x9d\x01\x2a"
_LOSSLESS_SIGNATURE = 0x2F


def read_header(data: bytes, max_metadata_bytes: int) -> Header:
    """Read the canvas and the frame, which must agree, and the profile, EXIF and XMP."""
    chunks: dict[bytes, tuple[int, int]] = {}
    frames = 0
    for kind, start, length in _chunks(data):
        frames += kind == b"ANMF"
        chunks.setdefault(kind, (start, length))
    extended = _body(data, chunks.get(b"VP8X"))
    width, height, has_alpha = _frame(data, chunks) if frames == 0 else (0, 0, False)
    if len(extended) >= 10:
        canvas = (1 + int.from_bytes(extended[4:7], "little"), 1 + int.from_bytes(extended[7:10], "little"))
        if frames == 0 and canvas != (width, height):
            raise UndecodableImage(f"The WebP says it is {canvas}, its frame says {(width, height)}.")
        (width, height), has_alpha = canvas, bool(extended[0] & _ALPHA_FLAG)
    for kind in (b"ICCP", b"EXIF", b"XMP "):
        metadata_within(kind.decode().strip(), chunks.get(kind, (0, 0))[1], max_metadata_bytes)
    block = _body(data, chunks.get(b"EXIF")).removeprefix(exif.PREFIX)
    xmp = _body(data, chunks.get(b"XMP ")) or None
    return Header(
        format="WebP",
        width=width,
        height=height,
        is_grey=False,
        has_alpha=has_alpha,
        frames=max(1, frames),
        orientation=exif.orientation(block, xmp),
        metadata=Metadata(
            icc_profile=_body(data, chunks.get(b"ICCP")) or None,
            exif=block or None,
            xmp=xmp,
        ),
    )


def decode(data: bytes, header: Header) -> Planes:
    """Decode the pixels."""
    return planes_of(decode_with_opencv(data, header), header)


def _frame(data: bytes, chunks: dict[bytes, tuple[int, int]]) -> tuple[int, int, bool]:
    # Width, height and alpha as the compressed frame states them.
    lossy, lossless = _body(data, chunks.get(b"VP8 "), 10), _body(data, chunks.get(b"VP8L"), 5)
    if len(lossy) == 10 and lossy[3:6] == _KEY_FRAME:
        width, height = struct.unpack("<HH", lossy[6:])
        return width & 0x3FFF, height & 0x3FFF, False  # the other two bits ask for scaling
    if len(lossless) == 5 and lossless[0] == _LOSSLESS_SIGNATURE:
        bits = int.from_bytes(lossless[1:], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    raise UndecodableImage("The WebP has no frame, or a damaged one.")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    # Kind, start of the body, length; an odd body is followed by one byte that belongs to nothing.
    end = 8 + int.from_bytes(data[4:8], "little")
    at = 12
    for _ in range(_MOST_CHUNKS):
        if at + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, at) if at + 8 <= len(data) else (b"", end)
        if at + 8 + length > len(data):
            raise UndecodableImage("The WebP is cut off.")
        yield kind, at + 8, length
        at += 8 + length + length % 2


def _body(data: bytes, place: tuple[int, int] | None, most: int | None = None) -> bytes:
    if place is None:
        return b""
    start, length = place
    return data[start : start + (length if most is None else min(length, most))]
