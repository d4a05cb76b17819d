"""PNG pixel decoding: inflates only what the header declares, and decodes a band of rows at a time."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from isal import igzip_lib, isal_zlib
from numpy.typing import NDArray

from server.errors import UndecodableImage
from server.formats.base import Header, Planes, Samples
from server.formats.png.stored_stream import BLOCK_BYTES, store, stored, stored_bytes
from server.formats.png.writer import END, SIGNATURE, png_chunk
from server.formats.samples import decode_with_opencv, planes_of

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
# The left, top, horizontal step and vertical step of each pass of an interlaced image (section 8.1).
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_ONE_PASS = ((0, 0, 1, 1),)
_INFLATE_ERROR: Any = isal_zlib.error
# Bytes inflated per call, in whole blocks of a stored stream; also compressed bytes passed per call, because unused
# input is copied.
_PIECE_BYTES = 16 * BLOCK_BYTES
# The decoder holds the inflated rows and up to three copies of the pixels, so a large photo is decoded in bands.
_BAND_BYTES = 8 * 2**20
_UNFILTERED = b"\0"


class PackedPixels(NamedTuple):
    """The chunks that affect pixels: IHDR, PLTE and tRNS as whole chunks, and the IDAT bodies."""

    header: bytes
    colours: bytes
    bodies: Sequence[memoryview]


class _Ihdr(NamedTuple):
    """The content of IHDR."""

    width: int
    height: int
    depth: int
    colour_type: int
    compression: int
    filtering: int
    interlaced: int

    @property
    def passes(self) -> tuple[tuple[int, int, int, int], ...]:
        return _ADAM7 if self.interlaced else _ONE_PASS

    @property
    def parts(self) -> Iterator[tuple["_Ihdr", tuple[slice, slice]]]:
        """Yield each pass as a non-interlaced image, with its rows and columns in the whole image."""
        for left, top, across, down in self.passes:
            columns, rows = -(-(self.width - left) // across), -(-(self.height - top) // down)
            if columns > 0 and rows > 0:
                ihdr = self._replace(width=columns, height=rows, interlaced=0)
                yield ihdr, (slice(top, None, down), slice(left, None, across))

    @property
    def row_bytes(self) -> int:
        """Inflated bytes per row, with the filter byte, of a non-interlaced image."""
        return 1 + (self.width * self.depth * _CHANNELS[self.colour_type] + 7) // 8

    @property
    def bytes_of_rows(self) -> int:
        """Inflated bytes of all rows."""
        if not self.interlaced:
            return self.height * self.row_bytes
        return sum(part.height * part.row_bytes for part, _ in self.parts)

    @property
    def can_be_cut(self) -> bool:
        """Whether the row above a band can be reconstructed from decoded samples."""
        return self.colour_type != PALETTE and self.depth >= 8


def decode_pixels(packed: PackedPixels, header: Header) -> Planes:
    """Inflate and decode the pixels; raises UndecodableImage if they are damaged or cut off.

    Data beyond the pixels, as in a decompression bomb, is not inflated. Inflating with ISA-L and giving the decoder an
    uncompressed PNG is faster than letting the decoder inflate.
    """
    ihdr = _Ihdr(*struct.unpack_from(">IIBBBBB", packed.header, 8))
    size = ihdr.bytes_of_rows
    try:
        if size > _BAND_BYTES and ihdr.can_be_cut:
            return _decode_in_bands(packed, ihdr, header)
        if size <= BLOCK_BYTES:
            return _decode_small(packed, size, header)
        file, found = _file(ihdr, packed.colours, size, _inflated(packed.bodies, size))
        _check_whole(found, size)
    except _INFLATE_ERROR as error:
        raise UndecodableImage("The PNG is damaged: its pixels cannot be inflated.") from error
    return _decoded_and_freed([file], header)


def _decode_small(packed: PackedPixels, size: int, header: Header) -> Planes:
    rows = b"".join(_inflated(packed.bodies, size))
    _check_whole(len(rows), size)
    chunks = packed.header, packed.colours, png_chunk(b"IDAT", stored(rows)), END
    return planes_of(decode_with_opencv(b"".join((SIGNATURE, *chunks)), header), header)


def _decode_in_bands(packed: PackedPixels, ihdr: _Ihdr, header: Header) -> Planes:
    dtype = np.uint8 if ihdr.depth == 8 else np.uint16
    has_alpha, is_keyed = ihdr.colour_type in (GREY_ALPHA, RGB_ALPHA), header.has_alpha and ihdr.colour_type == RGB
    whole = np.empty((_CHANNELS[ihdr.colour_type] + is_keyed, ihdr.height, ihdr.width), dtype)
    unpacked = _Rows(_inflated(packed.bodies, ihdr.bytes_of_rows))
    for part, (rows, columns) in ihdr.parts:
        _decode_part(part, packed.colours, unpacked, header, whole[:, rows, columns])
    planes = tuple(whole)
    return Planes(planes[:-1], planes[-1]) if has_alpha or is_keyed else Planes(planes, None)


def _decode_part(ihdr: _Ihdr, colours: bytes, unpacked: "_Rows", header: Header, target: Any) -> None:
    # Filters refer to the row above, so each band is decoded as a PNG that starts with that row, unfiltered.
    above = b""
    for top in range(0, ihdr.height, count := max(1, _BAND_BYTES // ihdr.row_bytes)):
        rows = min(count, ihdr.height - top)
        lead = 1 if above else 0
        size = (lead + rows) * ihdr.row_bytes
        file, found = _file(
            ihdr._replace(height=lead + rows), colours, size, unpacked.take(rows * ihdr.row_bytes, above)
        )
        _check_whole(found, size)
        band = _decoded_and_freed([file], header)
        layers = [*band.colour, *([] if band.alpha is None else [band.alpha])]
        if len(layers) != len(target) or layers[0].dtype != target.dtype or layers[0].shape[0] != lead + rows:
            raise UndecodableImage("The PNG is damaged and cannot be decoded.")
        for plane, layer in zip(target, layers, strict=True):
            plane[top : top + rows] = layer[lead:]
        last = target[
            : _CHANNELS[ihdr.colour_type], top + rows - 1
        ].T  # (W, C), without alpha that comes from a transparent colour
        above = _UNFILTERED + np.ascontiguousarray(last, last.dtype.newbyteorder(">")).tobytes()


def _decoded_and_freed(file: list[NDArray[np.uint8]], header: Header) -> Planes:
    # Pops the file from a list, so that it is freed before the pixels are split into planes.
    samples: Samples = decode_with_opencv(file.pop(), header)
    return planes_of(samples, header)


def _check_whole(found: int, size: int) -> None:
    if found < size:
        raise UndecodableImage(f"The PNG is cut off: {found} of {size} bytes of pixels are present.")


class _Rows:
    """Reader that regroups a stream of inflated bytes into the requested lengths."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def take(self, size: int, above: bytes) -> Iterator[bytes | memoryview]:
        """Yield `above`, then the next `size` bytes, or fewer at the end of the stream."""
        yield above
        while size:
            if not len(self._rest):
                piece = next(self._pieces, b"")
                if not piece:
                    return
                self._rest = memoryview(piece)
            part, self._rest = self._rest[:size], self._rest[size:]
            size -= len(part)
            yield part


def _file(ihdr: _Ihdr, colours: bytes, size: int, rows: Iterator[bytes | memoryview]) -> tuple[NDArray[np.uint8], int]:
    # Returns an uncompressed PNG file of some rows, and how many of the `size` bytes were available.
    before = b"".join((SIGNATURE, png_chunk(b"IHDR", struct.pack(">IIBBBBB", *ihdr)), colours))
    start, length = len(before) + 8, stored_bytes(size)
    file = np.empty(start + length + 4 + len(END), np.uint8)
    view = file.data
    view[:start] = before + struct.pack(">I4s", length, b"IDAT")
    found = store(rows, size, file[start : start + length])
    checksum = isal_zlib.crc32(view[start : start + length], isal_zlib.crc32(b"IDAT"))
    view[start + length :] = struct.pack(">I", checksum) + END
    return file, found


def _inflated(bodies: Sequence[memoryview], size: int) -> Iterator[bytes]:
    # Yields at most `size` bytes, in pieces. Each is inflated in one go without the interpreter lock; `isal_zlib` takes
    # it back whenever its output doubles.
    inflater = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_ZLIB)
    for start in _regrouped(bodies):
        packed: bytes | memoryview = start
        needs_input = False
        while size and not (needs_input or inflater.eof):
            piece: bytes = inflater.decompress(packed, min(size, _PIECE_BYTES))
            if piece:
                yield piece
            size, packed, needs_input = size - len(piece), b"", inflater.needs_input
        if size == 0 or inflater.eof:
            return


def _regrouped(bodies: Sequence[memoryview]) -> Iterator[memoryview]:
    # Yields at most _PIECE_BYTES each, and joins smaller bodies: encoders write one for every few kilobytes, and each
    # call gives up the interpreter lock.
    group: list[memoryview] = []
    room = _PIECE_BYTES
    for body in bodies:
        for part in (body[at : at + _PIECE_BYTES] for at in range(0, len(body), _PIECE_BYTES)):
            if len(part) > room:
                yield _joined(group)
                group, room = [], _PIECE_BYTES
            group.append(part)
            room -= len(part)
    if group:
        yield _joined(group)


def _joined(group: list[memoryview]) -> memoryview:
    return group[0] if len(group) == 1 else memoryview(b"".join(group))
