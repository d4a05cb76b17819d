"""WebP: reads lossy and lossless, writes lossy; 8 bits, with or without alpha (RFC 9649)."""

import io
import struct
from collections.abc import Iterator

from server.errors import UndecodableImage
from server.formats.base import Encoder, EncoderOptions, Format, Header, Planes, check_metadata_size
from server.formats.samples import decode_with_opencv, in_colour, in_eight_bits, picture_of, planes_of
from server.imaging import exif
from server.imaging.metadata import Metadata

_MAX_CHUNKS = 1024  # an animation has three chunks per frame, and is rejected anyway
_ALPHA_FLAG = 0x10
_KEY_FRAME = b"\x9d\x01\x2a"
_LOSSLESS_SIGNATURE = 0x2F
_LONGEST_SIDE = 16_383
_METHOD = 2  # measured in docs/images.md: the best trade of size against time


def matches(start: bytes) -> bool:
    """Return whether a file is a WebP RIFF container."""
    return start[:4] == b"RIFF" and start[8:12] == b"WEBP"


def peek(start: bytes) -> tuple[int, int] | None:
    """Return (height, width) from the first chunk."""
    (kind,) = struct.unpack_from("4s", start, 12)
    if kind == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", start, 24)
        return 1 + low_height + (high_height << 16), 1 + low_width + (high_width << 16)
    if kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", start, 20)
        return (1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)) if signature == _LOSSLESS_SIGNATURE else None
    if kind == b"VP8 ":
        code, width, height = struct.unpack_from("<3sHH", start, 23)
        return (height & 0x3FFF, width & 0x3FFF) if code == _KEY_FRAME else None
    return None


def read_header(data: bytes, max_metadata_bytes: int) -> Header:
    """Read the canvas and frame sizes, which must agree, and the profile, EXIF and XMP."""
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
            raise UndecodableImage(f"The WebP states a size of {canvas}, its frame {(width, height)}.")
        (width, height), has_alpha = canvas, bool(extended[0] & _ALPHA_FLAG)
    for kind, name in ((b"ICCP", "colour profile"), (b"EXIF", "EXIF"), (b"XMP ", "XMP")):
        check_metadata_size(name, chunks.get(kind, (0, 0))[1], max_metadata_bytes)
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


def encode(planes: Planes, metadata: Metadata, options: EncoderOptions) -> bytes:
    """Encode RGB or RGBA in 8 bits, grey as RGB; alpha is lossless except for bits beyond 8."""
    planes, metadata = in_colour(in_eight_bits(planes), metadata.with_profile(is_grey=planes.is_grey))
    file = io.BytesIO()
    picture_of(planes).save(
        file,
        "WEBP",
        quality=options.quality,
        method=_METHOD,
        exact=True,  # transparent pixels keep their colour
        icc_profile=metadata.icc_profile or b"",
        exif=metadata.exif or b"",
        xmp=metadata.xmp or b"",
    )
    return file.getvalue()


def _frame(data: bytes, chunks: dict[bytes, tuple[int, int]]) -> tuple[int, int, bool]:
    # Returns width, height and the presence of alpha, as stated by the compressed frame.
    lossy, lossless = _body(data, chunks.get(b"VP8 "), 10), _body(data, chunks.get(b"VP8L"), 5)
    if len(lossy) == 10 and lossy[3:6] == _KEY_FRAME:
        width, height = struct.unpack("<HH", lossy[6:])
        return width & 0x3FFF, height & 0x3FFF, False  # the other two bits are a scaling hint
    if len(lossless) == 5 and lossless[0] == _LOSSLESS_SIGNATURE:
        bits = int.from_bytes(lossless[1:], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    raise UndecodableImage("The WebP has no frame, or a damaged one.")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    # Yields kind, start of the body and length; a body of odd length is followed by one byte of padding.
    end = 8 + int.from_bytes(data[4:8], "little")
    at = 12
    for _ in range(_MAX_CHUNKS):
        if at + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, at) if at + 8 <= len(data) else (b"", end)
        if at + 8 + length > len(data):
            raise UndecodableImage("The WebP is cut off.")
        yield kind, at + 8, length
        at += 8 + length + length % 2


def _body(data: bytes, place: tuple[int, int] | None, limit: int | None = None) -> bytes:
    if place is None:
        return b""
    start, length = place
    return data[start : start + (length if limit is None else min(length, limit))]


FORMAT = Format(
    name="WebP",
    media_type="image/webp",
    suffixes=(".webp",),
    matches=matches,
    peek=peek,
    read_header=read_header,
    decode=decode,
    encoder=Encoder(encode, is_lossy=True, longest_side=_LONGEST_SIDE, is_fast=False),
)
