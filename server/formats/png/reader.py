"""PNG reader: header, metadata and the chunks that affect pixels (PNG specification, third edition)."""

import struct
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from isal import isal_zlib

from server.errors import ImageTooLarge, UndecodableImage
from server.formats.base import QUICK_BYTES, QUICK_PARTS, Header, Planes, check_metadata_size
from server.formats.png.pixels import GREY, GREY_ALPHA, PALETTE, RGB, RGB_ALPHA, PackedPixels, decode_pixels
from server.formats.png.writer import SIGNATURE, XMP_KEYWORD
from server.imaging import exif
from server.imaging.metadata import NO_METADATA, Metadata

_MAX_CHUNKS = 20_000  # encoders write chunks of 8 KB or more, so this allows 160 MB of pixels
# A file with more chunks of pixels is walked through again for them: a list would be held as long as it waits.
_MAX_KEPT_CHUNKS = 256
_DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
_COLOUR_CHUNKS = frozenset({b"PLTE", b"tRNS"})
_PIXEL_CHUNKS = frozenset({b"IHDR", b"IDAT", b"IEND", *_COLOUR_CHUNKS})
_COLOUR_SIZES = ((b"gAMA", 4), (b"cHRM", 32), (b"sRGB", 1), (b"cICP", 4))
_READ_CHUNKS = frozenset({b"eXIf", b"iCCP", b"acTL", XMP_KEYWORD, *(kind for kind, _ in _COLOUR_SIZES)})
# A checksum of more bytes at once gives up the interpreter lock, and to get it back takes longer than to check the 8 KB
# of a usual chunk: in two parts, it is kept.
_LOCKED_BYTES = 5 * 1024
_INFLATED_CHUNKS = frozenset({b"iCCP", b"iTXt"})
_NAMES = {b"eXIf": "EXIF", b"iCCP": "colour profile", b"iTXt": "XMP"}


_LENGTH_AND_KIND = struct.Struct(">I4s")
# Kind, offset of the length field, and length of the body. A NamedTuple would take twice as long.
_Chunk = tuple[bytes, int, int]


class _PixelChunks(NamedTuple):
    chunks: tuple[_Chunk, ...]
    """The chunks that affect pixels, in the order of the file."""


def read_header(data: bytes, max_metadata_bytes: int) -> Header:
    """Read IHDR, and the profile, EXIF and XMP anywhere in the file, inflated only up to the limit."""
    chunks, pixel_chunks = _found(data) if data.startswith(b"IHDR", len(SIGNATURE) + 4) else ({}, None)
    body = _body(data, chunks[b"IHDR"]) if chunks else b""
    if len(body) != 13 or b"IDAT" not in chunks:
        raise UndecodableImage("The PNG has no header or no pixels.")
    width, height, depth, colour_type = struct.unpack(">IIBB", body[:10])
    if depth not in _DEPTHS.get(colour_type, ()):
        raise UndecodableImage(f"The PNG states {depth} bits in colour type {colour_type}, which does not exist.")
    extra = {kind: _ancillary(data, chunks[kind], max_metadata_bytes) for kind in _READ_CHUNKS & chunks.keys()}
    metadata = _metadata(extra, max_metadata_bytes) if extra else NO_METADATA
    return Header(
        format="PNG",
        width=width,
        height=height,
        is_grey=colour_type in (GREY, GREY_ALPHA) or (colour_type == PALETTE and _is_grey_palette(data, chunks)),
        has_alpha=colour_type in (GREY_ALPHA, RGB_ALPHA) or b"tRNS" in chunks,
        depth=depth,
        frames=int.from_bytes(extra[b"acTL"][:4], "big") if extra.get(b"acTL") else 1,
        orientation=exif.orientation(metadata.exif, metadata.xmp),
        metadata=metadata,
        found=pixel_chunks,
    )


def is_quick(data: bytes) -> bool:
    """Return whether the file has few chunks, and none of metadata that may have to be inflated to megabytes."""
    unpack, at, last = _LENGTH_AND_KIND.unpack_from, len(SIGNATURE), len(data) - 8
    if last > QUICK_BYTES:
        return False
    for _ in range(QUICK_PARTS):
        if at > last:
            return True
        length, kind = unpack(data, at)
        if kind in _INFLATED_CHUNKS:
            return False
        at += 12 + length
    return False


def decode(data: bytes, header: Header) -> Planes:
    """Decode the pixels; the decoder gets only the chunks that affect them."""
    kept, view = header.found, memoryview(data)
    found = kept.chunks if isinstance(kept, _PixelChunks) else [one for one in _walked(data) if one[0] in _PIXEL_CHUNKS]
    colours, bodies = b"", []
    for kind, start, length in found:
        if not _is_sound(view, start, length):
            raise UndecodableImage("The PNG is damaged: a checksum is wrong.")
        if kind == b"IDAT":
            bodies.append(view[start + 8 : start + 8 + length])
        elif kind in _COLOUR_CHUNKS:
            colours += view[start : start + length + 12]
    planes = decode_pixels(PackedPixels(_whole(data, found[0]), colours, bodies), header)
    if planes.alpha is None and header.has_alpha:
        key = next(_body(data, chunk) for chunk in found if chunk[0] == b"tRNS")
        return _with_keyed_alpha(planes, header, int.from_bytes(key[:2], "big"))
    return planes


def _with_keyed_alpha(planes: Planes, header: Header, key: int) -> Planes:
    # Adds the alpha of a transparent grey value, which OpenCV ignores. Fewer than 8 bits were scaled to 8.
    grey = planes.colour[0]
    full = np.iinfo(grey.dtype).max
    stretched = key if header.depth >= 8 else key * 255 // (2**header.depth - 1)
    alpha = np.where(grey == stretched, grey.dtype.type(0), grey.dtype.type(full))
    return Planes(planes.colour, alpha)


def _walked(data: bytes) -> list[_Chunk]:
    # Returns all chunks up to IEND; raises UndecodableImage if it is missing. The chunks of pixels are many, so this
    # loop and the next are most of what a header costs.
    chunks: list[_Chunk] = []
    unpack, at, last = _LENGTH_AND_KIND.unpack_from, len(SIGNATURE), len(data) - 12
    while at <= last:
        length, kind = unpack(data, at)
        chunks.append((kind, at, length))
        at += 12 + length
        if kind == b"IEND" and at <= len(data):
            return chunks
        if len(chunks) == _MAX_CHUNKS:
            raise ImageTooLarge(f"The PNG has more than {_MAX_CHUNKS} chunks.", max_chunks=_MAX_CHUNKS)
    raise UndecodableImage("The PNG is cut off or damaged: its chunks do not reach the end marker.")


def _found(data: bytes) -> tuple[dict[bytes, _Chunk], _PixelChunks | None]:
    # Returns the first chunk of each kind, and all those of the pixels unless they are many. XMP is one of several iTXt
    # chunks, so its key is its keyword.
    first: dict[bytes, _Chunk] = {}
    pixels: list[_Chunk] = []
    for chunk in _walked(data):
        kind = chunk[0]
        if kind in _PIXEL_CHUNKS:
            pixels.append(chunk)
        elif kind == b"iTXt" and data.startswith(XMP_KEYWORD + b"\0", chunk[1] + 8):
            kind = XMP_KEYWORD
        if kind not in first:
            first[kind] = chunk
    return first, _PixelChunks(tuple(pixels)) if len(pixels) <= _MAX_KEPT_CHUNKS else None


def _whole(data: bytes, chunk: _Chunk) -> bytes:
    _, start, length = chunk
    return data[start : start + length + 12]


def _body(data: bytes, chunk: _Chunk) -> bytes:
    _, start, length = chunk
    return data[start + 8 : start + 8 + length]


def _ancillary(data: bytes, chunk: _Chunk, limit: int) -> bytes:
    # Damaged metadata is left out, and the image is still read; the decoder checks the pixel chunks.
    kind, start, length = chunk
    check_metadata_size(_NAMES.get(kind, kind.decode("latin-1")), length, limit)
    return _body(data, chunk) if _is_sound(memoryview(data), start, length) else b""


def _metadata(extra: Mapping[bytes, bytes], max_metadata_bytes: int) -> Metadata:
    return Metadata(
        icc_profile=_profile(extra.get(b"iCCP", b""), max_metadata_bytes),
        exif=extra.get(b"eXIf", b"").removeprefix(exif.PREFIX) or None,
        xmp=_xmp(extra.get(XMP_KEYWORD, b""), max_metadata_bytes),
        colour_chunks=tuple((kind, extra[kind]) for kind, size in _COLOUR_SIZES if len(extra.get(kind, b"")) == size),
    )


def _is_sound(data: memoryview, start: int, length: int) -> bool:
    begin, end = start + 4, start + 8 + length
    checksum = 0
    if length > _LOCKED_BYTES:
        checksum = isal_zlib.crc32(data[begin : begin + _LOCKED_BYTES])
        begin += _LOCKED_BYTES
    checksum = isal_zlib.crc32(data[begin:end], checksum)
    return checksum == int.from_bytes(data[end : end + 4], "big")


def _is_grey_palette(data: bytes, chunks: dict[bytes, _Chunk]) -> bool:
    palette = _body(data, chunks[b"PLTE"]) if b"PLTE" in chunks else b""
    return bool(palette) and palette[::3] == palette[1::3] == palette[2::3]


def _profile(body: bytes, max_metadata_bytes: int) -> bytes | None:
    _, _, rest = body.partition(b"\0")
    return _inflate(rest[1:], "colour profile", max_metadata_bytes) if rest[:1] == b"\0" else None


def _xmp(body: bytes, max_metadata_bytes: int) -> bytes | None:
    if not body:
        return None
    compressed, rest = body[len(XMP_KEYWORD) + 1 : len(XMP_KEYWORD) + 2], body[len(XMP_KEYWORD) + 3 :]
    text = rest.split(b"\0", 2)[-1]  # after the language and the translated keyword
    if compressed == b"\1":
        return _inflate(text, "XMP", max_metadata_bytes)
    return text or None


def _inflate(data: bytes, kind: str, max_metadata_bytes: int) -> bytes | None:
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(data, max_metadata_bytes + 1)
    except zlib.error:
        return None
    check_metadata_size(kind, len(body), max_metadata_bytes)
    return body if inflater.eof else None
