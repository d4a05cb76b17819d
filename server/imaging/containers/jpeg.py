"""JPEG: its segments before the pixels (ITU-T T.81, annex B)."""

import io
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import PIL.Image
from PIL import JpegImagePlugin

from server.errors import UndecodableImage, UnsupportedImage
from server.imaging import colour, exif
from server.imaging.containers.base import Header, Planes, decode_with_opencv, metadata_within, planes_of
from server.imaging.metadata import Metadata

XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"

_SOI, _EOI, _SOS, _COM, _APP0, _APP1, _APP2, _APP14, _APP15 = 0xD8, 0xD9, 0xDA, 0xFE, 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_SOF = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_LONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_ICC_PREFIX = b"ICC_PROFILE\0"
# A profile takes up to 255 segments, a panorama's XMP some hundred.
_MOST_SEGMENTS = 4096
# Cameras write about ten; each costs a pass over all pixels, whatever its own length.
_MOST_SCANS = 100
_FILL = re.compile(rb"\xff+")
_MARKER = re.compile(rb"\xff+[^\0\xd0-\xd7\xff]")


class _Segment(NamedTuple):
    marker: int
    start: int  # of the marker
    end: int


def read_header(data: bytes, max_metadata_bytes: int) -> Header:
    """Read the frame header, and the profile, EXIF and XMP before the first scan."""
    segments = _segments(data)
    frames = [segment for segment in segments if segment.marker in _SOF]
    if len(frames) != 1 or frames[0].end - frames[0].start < 10:
        raise UndecodableImage("The JPEG has no frame header before its pixels, or several.")
    precision, height, width, components = struct.unpack_from(">BHHB", data, frames[0].start + 4)
    if precision != 8 or components not in (1, 3, 4):
        raise UnsupportedImage(f"JPEG with {components} channels of {precision} bits is not read: use 1 or 3 of 8.")
    _refuse_many_scans(data, segments[-1].start)
    block = _first_body(data, segments, exif.PREFIX)
    xmp = _first_body(data, segments, XMP_PREFIX)
    return Header(
        format="JPEG",
        width=width,
        height=height,
        is_grey=components == 1,
        has_alpha=False,
        orientation=exif.orientation(block, xmp),
        metadata=Metadata(
            icc_profile=_profile(data, segments, max_metadata_bytes),
            exif=block,
            xmp=xmp,
        ),
    )


def decode(data: bytes, header: Header) -> Planes:
    """Decode the pixels, CMYK as sRGB; only the segments that make pixels reach the decoder."""
    segments = _segments(data)
    kept = [data[one.start : one.end] for one in segments[:-1] if _makes_pixels(one.marker)]
    pixels = b"".join((b"\xff\xd8", *kept, memoryview(data)[segments[-1].start :]))
    frame = next(segment for segment in segments if segment.marker in _SOF)
    if data[frame.start + 9] != 4:
        return planes_of(decode_with_opencv(pixels, header), header)
    try:
        inks: PIL.Image.Image = JpegImagePlugin.JpegImageFile(io.BytesIO(pixels))
        inks.load()
    except Exception as error:  # parsers meet hostile bytes, and whatever they raise means the same
        raise UndecodableImage("The JPEG is cut off or damaged and cannot be decoded.") from error
    return Planes(colour.inks_as_rgb(inks, header.metadata.icc_profile), None)


def _segments(data: bytes) -> list[_Segment]:
    # Up to and with the first scan header.
    found: list[_Segment] = []
    for segment in _walk(data):
        found.append(segment)
        if segment.marker == _SOS:
            return found
        if len(found) > _MOST_SEGMENTS or segment.marker == _EOI:
            break
    raise UndecodableImage("The JPEG is cut off or damaged before its pixels.")


def _walk(data: bytes) -> Iterator[_Segment]:
    at = 2
    while (fill := _FILL.search(data, at)) and fill.end() < len(data):
        marker, start = data[fill.end()], fill.end() - 1
        if marker == _EOI or marker in _LONE:
            yield _Segment(marker, start, start + 2)
            at = start + 2
            continue
        if start + 4 > len(data):
            return
        at = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if at > len(data) or at < start + 4:
            return
        yield _Segment(marker, start, at)


def _refuse_many_scans(data: bytes, first: int) -> None:
    if data.count(b"\xff\xda", first) <= _MOST_SCANS:
        return  # the common case, without a walk
    at, scans = first, 0
    while (found := _MARKER.search(data, at)) and data[found.end() - 1] != _EOI:
        scans += data[found.end() - 1] == _SOS
        if scans > _MOST_SCANS:
            raise UnsupportedImage(f"The JPEG has more than {_MOST_SCANS} scans: save it again.")
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")


def _makes_pixels(marker: int) -> bool:
    # APP0 and APP14 say which colours the components are.
    return marker in (_APP0, _APP14) or not (_APP0 <= marker <= _APP15 or marker == _COM or marker in _LONE)


def _bodies(data: bytes, segments: list[_Segment], marker: int, prefix: bytes) -> Iterator[bytes]:
    for segment in segments:
        if segment.marker == marker and data.startswith(prefix, segment.start + 4):
            yield data[segment.start + 4 + len(prefix) : segment.end]


def _first_body(data: bytes, segments: list[_Segment], prefix: bytes) -> bytes | None:
    return next(_bodies(data, segments, _APP1, prefix), None) or None


def _profile(data: bytes, segments: list[_Segment], max_metadata_bytes: int) -> bytes | None:
    # Each piece begins with its number, from 1, and their count (ICC.1:2022, B.4).
    pieces: dict[int, bytes] = {}
    expected = 0
    with suppress(IndexError):
        for body in _bodies(data, segments, _APP2, _ICC_PREFIX):
            pieces.setdefault(body[0], body[2:])
            expected = body[1]
    metadata_within("colour profile", sum(map(len, pieces.values())), max_metadata_bytes)
    if not pieces or sorted(pieces) != list(range(1, expected + 1)):
        return None
    return b"".join(pieces[number] for number in sorted(pieces))
