"""JPEG reader: header, metadata and pixels (ITU-T T.81, annex B)."""

import io
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

import numpy as np
import PIL.Image
from PIL import JpegImagePlugin

from server.concurrency import INLINE_BYTES
from server.errors import ImageTooLarge, UndecodableImage, UnsupportedImage
from server.formats.base import QUICK_BYTES, QUICK_PARTS, Header, Planes, check_metadata_size
from server.formats.jpeg.markers import (
    APP0,
    APP1,
    APP2,
    APP14,
    DAC,
    DHT,
    DQT,
    DRI,
    END,
    EOI,
    MAX_SEGMENTS,
    PROGRESSIVE,
    SOF,
    SOI,
    SOS,
    START,
    Frame,
    Segment,
    frame,
    walk,
)
from server.formats.jpeg.pictures import GAIN_MAP_PREFIX, MPF_PREFIX, XMP_PREFIX, has_video_after, parts_after
from server.formats.jpeg.scans import Scans
from server.formats.samples import decode_with_opencv, planes_of
from server.imaging import colour, exif
from server.imaging.metadata import NO_METADATA, Metadata
from server.imaging.xmp import parts_of

ICC_PREFIX = b"ICC_PROFILE\0"
# APP0 and APP14 state the colour space of the components.
_BEFORE_SCANS = SOF | {DHT, DQT, DRI, DAC, APP0, APP14}
_DESCRIBED = frozenset({APP1, APP2})
_BETWEEN_SCANS = frozenset({DHT, DQT, DRI, DAC, SOS})
_AFTER_SCANS = SOF | {SOI, EOI}
# Decoders assume zeros for missing data; these bits differ from zeros at once.
_OTHER_BITS = bytes(range(0xB5, 0x35, -1))


class _Layout(NamedTuple):
    """The segments that a decoder needs up to the first scan."""

    before: list[Segment]
    """All segments before the first scan."""
    start: Segment
    """The segment of the frame header, one of `before`."""
    frame: Frame
    scan: Segment
    """The first scan header."""


class _Coded(NamedTuple):
    """The coded data of a picture."""

    pieces: list[tuple[int, int]]
    """Start and end of each scan and of the tables between them, without segments that do not affect pixels."""
    ends: bool
    """Whether an end marker follows."""
    is_complete: bool
    """Whether the scans contain the whole picture, unless the last one is cut off."""


def read_header(data: bytes, max_metadata_bytes: int) -> Header:
    """Read the frame header, and the profile, EXIF and XMP before the first scan."""
    layout = _layout(data)
    precision, height, width, components = layout.frame
    if precision != 8 or len(components) not in (1, 3, 4):
        raise UnsupportedImage(
            f"JPEG with {len(components)} channels of {precision} bits is not supported: use 1 or 3 channels of 8 bits."
        )
    if _may_have_scans_after(data, layout):
        _coded(data, layout)
    described = [segment for segment in layout.before if segment.marker in _DESCRIBED]
    metadata = _metadata(data, described, max_metadata_bytes) if described else NO_METADATA
    return Header(
        format="JPEG",
        width=width,
        height=height,
        is_grey=len(components) == 1,
        has_alpha=False,
        orientation=exif.orientation(metadata.exif, metadata.xmp),
        metadata=metadata,
        parts=parts_of(metadata.xmp) | _parts(data, described, layout.scan.end),
        found=layout,
    )


def is_quick(data: bytes) -> bool:
    """Return whether the file is small, or has few segments, one scan that is not progressive and no more pictures."""
    if not INLINE_BYTES < len(data) <= QUICK_BYTES:
        return len(data) <= INLINE_BYTES
    components = 0
    for segment in islice(walk(data), QUICK_PARTS):
        if segment.marker in SOF:
            read = None if segment.marker in PROGRESSIVE else frame(data, segment)
            components = 0 if read is None else len(read.components)
        elif segment.marker == SOS:
            has_all = components > 0 and data[segment.start + 4 : segment.start + 5] == bytes((components,))
            return has_all and data.find(MPF_PREFIX, 0, segment.start) < 0
    return False


def decode(data: bytes, header: Header) -> Planes:
    """Decode the pixels, CMYK as sRGB; the decoder gets only the segments that affect pixels.

    Data without an end marker is accepted if it contains all pixels, that is, if decoding it twice with different data
    appended gives the same result.
    """
    layout = header.found if isinstance(header.found, _Layout) else _layout(data)
    coded, view = _coded(data, layout, whole=True), memoryview(data)
    parts: list[bytes | memoryview] = [START]
    parts += [view[one.start : one.end] for one in layout.before if one.marker in _BEFORE_SCANS]
    parts += [view[start:end] for start, end in coded.pieces]
    is_cmyk = len(layout.frame.components) == 4
    if coded.ends:
        return _decoded(b"".join((*parts, END)), header, is_cmyk=is_cmyk)
    pixels = b"".join(parts).rstrip(b"\xff")
    planes = _decoded(pixels + END, header, is_cmyk=is_cmyk)
    other = _decoded(pixels + _further(pixels) + END, header, is_cmyk=is_cmyk)
    if not coded.is_complete or not all(map(np.array_equal, planes.colour, other.colour)):
        raise UndecodableImage("The JPEG is cut off: it has neither all its pixels nor an end marker.")
    return planes


def _further(pixels: bytes) -> bytes:
    # Returns filler for missing data, in this restart interval and in the following ones.
    last = max(range(8), key=lambda number: pixels.rfind(bytes((0xFF, 0xD0 + number))))
    follows = (last + 1) % 8 if bytes((0xFF, 0xD0 + last)) in pixels else 0
    restarts = (bytes((0xFF, 0xD0 + (follows + number) % 8)) for number in range(8))
    return b"".join((_OTHER_BITS, *(restart + _OTHER_BITS for restart in restarts)))


def _decoded(pixels: bytes, header: Header, *, is_cmyk: bool) -> Planes:
    if not is_cmyk:
        return planes_of(decode_with_opencv(pixels, header), header)
    try:
        inks: PIL.Image.Image = JpegImagePlugin.JpegImageFile(io.BytesIO(pixels))
        inks.load()
    except Exception as error:  # hostile bytes can raise anything
        raise UndecodableImage("The JPEG is cut off or damaged and cannot be decoded.") from error
    return Planes(colour.cmyk_to_rgb(inks, header.metadata.icc_profile), None)


def _layout(data: bytes) -> _Layout:
    before: list[Segment] = []
    starts: list[Segment] = []
    scan: Segment | None = None
    for segment in walk(data):
        marker = segment.marker
        if marker == SOS:
            scan = segment
            break
        if marker in SOF:
            starts.append(segment)
        before.append(segment)
    if scan is None and len(before) == MAX_SEGMENTS:
        raise ImageTooLarge(f"The JPEG has more than {MAX_SEGMENTS} segments.", max_segments=MAX_SEGMENTS)
    if scan is None:
        raise UndecodableImage("The JPEG is cut off or damaged before its pixels.")
    read = frame(data, starts[0]) if len(starts) == 1 else None
    if read is None:
        raise UndecodableImage("The JPEG has no frame header before its pixels, or more than one.")
    return _Layout(before, starts[0], read, scan)


def _may_have_scans_after(data: bytes, layout: _Layout) -> bool:
    # Most JPEGs are sequential, and their only scan has all components.
    parameters = data[layout.scan.start + 4 : layout.scan.end]
    is_progressive = layout.start.marker in PROGRESSIVE
    return is_progressive or not parameters or parameters[0] < len(layout.frame.components)


def _coded(data: bytes, layout: _Layout, *, whole: bool = False) -> _Coded:
    # Collects the scans that add to the picture and counts the others; `whole` also finds the end of the last scan.
    is_progressive = layout.start.marker in PROGRESSIVE
    scans = Scans(layout.frame.height * layout.frame.width, layout.frame.components, is_progressive=is_progressive)
    starts: list[tuple[int, bool]] = []  # start of each segment, and whether it is collected
    is_complete = ends = False
    for segment in walk(data, layout.scan.start):
        starts.append((segment.start, segment.marker in _BETWEEN_SCANS and not is_complete))
        if (is_complete and not is_progressive) or segment.marker in _AFTER_SCANS:
            ends = segment.marker == EOI
            break
        if segment.marker == SOS:
            scans.add(data[segment.start + 4 : segment.end])
            is_complete = scans.is_complete
            if is_complete and not is_progressive and not whole:
                break
    ends_at = [*(start for start, _ in starts[1:]), len(data)]
    pieces = [(start, end) for (start, taken), end in zip(starts, ends_at, strict=True) if taken]
    return _Coded(pieces, ends, is_complete)


def _bodies(data: bytes, segments: list[Segment], marker: int, prefix: bytes) -> Iterator[bytes]:
    for segment in segments:
        if segment.marker == marker and data.startswith(prefix, segment.start + 4):
            yield data[segment.start + 4 + len(prefix) : segment.end]


def _metadata(data: bytes, described: list[Segment], max_metadata_bytes: int) -> Metadata:
    return Metadata(
        icc_profile=_profile(data, described, max_metadata_bytes),
        exif=_first_body(data, described, exif.PREFIX),
        xmp=_first_body(data, described, XMP_PREFIX),
    )


def _first_body(data: bytes, segments: list[Segment], prefix: bytes) -> bytes | None:
    return next(_bodies(data, segments, APP1, prefix), None) or None


def _parts(data: bytes, segments: list[Segment], scan: int) -> frozenset[str]:
    parts: frozenset[str] = frozenset({"motion-video"} if has_video_after(data, scan) else ())
    if any(_bodies(data, segments, APP2, GAIN_MAP_PREFIX)):
        parts |= {"gain-map"}
    for segment in segments:
        body = segment.start + 4
        if segment.marker == APP2 and data.startswith(MPF_PREFIX, body):
            base = body + len(MPF_PREFIX)
            return parts | parts_after(data, data[base : segment.end], base)
    return parts


def _profile(data: bytes, segments: list[Segment], max_metadata_bytes: int) -> bytes | None:
    # Each piece begins with its number, counted from 1, and the number of pieces (ICC.1:2022, B.4).
    pieces: dict[int, bytes] = {}
    expected = 0
    with suppress(IndexError):
        for body in _bodies(data, segments, APP2, ICC_PREFIX):
            pieces.setdefault(body[0], body[2:])
            expected = body[1]
    check_metadata_size("colour profile", sum(map(len, pieces.values())), max_metadata_bytes)
    if not pieces or sorted(pieces) != list(range(1, expected + 1)):
        return None
    return b"".join(pieces[number] for number in sorted(pieces))
