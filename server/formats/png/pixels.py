"""PNG pixels: unpacked exactly as far as the header says, and decoded a band of rows at a time."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from server.errors import UndecodableImage
from server.formats.base import Header, Planes, Samples
from server.formats.png.stored_stream import store, stored_bytes
from server.formats.png.writer import SIGNATURE, png_chunk
from server.formats.samples import decode_with_opencv, planes_of

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
_CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
# Section 8.1: where each pass of an interlaced image begins, and its steps.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_ONE_PASS = ((0, 0, 1, 1),)
_INFLATE_ERROR: Any = isal_zlib.error
# Unpacked at once; so much of what is packed, too, since the rest of it is copied each time.
_PIECE_BYTES = 2**20
# The decoder holds the unpacked rows and up to three copies of the pixels: of a large photo, a band at a time.
_BAND_BYTES = 8 * 2**20
_UNFILTERED = b"\0"


class PackedPixels(NamedTuple):
    """What makes the pixels of a PNG: the body of IHDR, PLTE and tRNS as they are framed, the bodies of IDAT."""

    header: bytes
    colours: bytes
    bodies: Sequence[memoryview]


class _Form(NamedTuple):
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
    def parts(self) -> Iterator[tuple["_Form", tuple[slice, slice]]]:
        """What is filtered by itself, as an image that is not interlaced, and the rows and columns that it is of."""
        for left, top, across, down in self.passes:
            columns, rows = -(-(self.width - left) // across), -(-(self.height - top) // down)
            if columns > 0 and rows > 0:
                form = self._replace(width=columns, height=rows, interlaced=0)
                yield form, (slice(top, None, down), slice(left, None, across))

    @property
    def row_bytes(self) -> int:
        """One row with its filter byte, unpacked, of an image that is not interlaced."""
        return 1 + (self.width * self.depth * _CHANNELS[self.colour_type] + 7) // 8

    @property
    def bytes_of_rows(self) -> int:
        """All rows."""
        return sum(part.height * part.row_bytes for part, _ in self.parts)

    @property
    def can_be_cut(self) -> bool:
        """Whether a band can begin with the row above it, made from decoded samples."""
        return self.colour_type != PALETTE and self.depth >= 8


def decode_pixels(packed: PackedPixels, header: Header) -> Planes:
    """Unpack and decode; raises UndecodableImage for what is damaged or cut off.

    Whatever a bomb holds beyond its pixels stays packed. ISA-L unpacks so fast that packing them again, as they are,
    still leaves the whole faster than the decoder alone.
    """
    form = _Form(*struct.unpack(">IIBBBBB", packed.header))
    size = form.bytes_of_rows
    try:
        if size > _BAND_BYTES and form.can_be_cut:
            return _decode_in_bands(packed, form, header)
        file, found = _file(form, packed.colours, size, _inflated(packed.bodies, size))
        _check_whole(found, size)
    except _INFLATE_ERROR as error:
        raise UndecodableImage("The PNG is damaged: its pixels cannot be unpacked.") from error
    return _decoded_and_freed([file], header)


def _decode_in_bands(packed: PackedPixels, form: _Form, header: Header) -> Planes:
    dtype = np.uint8 if form.depth == 8 else np.uint16
    has_alpha, is_keyed = form.colour_type in (GREY_ALPHA, RGB_ALPHA), header.has_alpha and form.colour_type == RGB
    whole = np.empty((_CHANNELS[form.colour_type] + is_keyed, form.height, form.width), dtype)
    unpacked = _Rows(_inflated(packed.bodies, form.bytes_of_rows))
    for part, (rows, columns) in form.parts:
        _decode_part(part, packed.colours, unpacked, header, whole[:, rows, columns])
    planes = tuple(whole)
    return Planes(planes[:-1], planes[-1]) if has_alpha or is_keyed else Planes(planes, None)


def _decode_part(form: _Form, colours: bytes, unpacked: "_Rows", header: Header, target: Any) -> None:
    # A filter looks back one row: each band is a PNG of its own whose first row is the one above, unfiltered.
    above = b""
    for top in range(0, form.height, count := max(1, _BAND_BYTES // form.row_bytes)):
        rows = min(count, form.height - top)
        lead = 1 if above else 0
        size = (lead + rows) * form.row_bytes
        file, found = _file(
            form._replace(height=lead + rows), colours, size, unpacked.take(rows * form.row_bytes, above)
        )
        _check_whole(found, size)
        band = _decoded_and_freed([file], header)
        layers = [*band.colour, *([] if band.alpha is None else [band.alpha])]
        if len(layers) != len(target) or layers[0].dtype != target.dtype or layers[0].shape[0] != lead + rows:
            raise UndecodableImage("The PNG is damaged and cannot be decoded.")
        for plane, layer in zip(target, layers, strict=True):
            plane[top : top + rows] = layer[lead:]
        last = target[: _CHANNELS[form.colour_type], top + rows - 1].T  # (W, C), without an alpha that a key makes
        above = _UNFILTERED + np.ascontiguousarray(last, last.dtype.newbyteorder(">")).tobytes()


def _decoded_and_freed(file: list[NDArray[np.uint8]], header: Header) -> Planes:
    # Taken out of a list, so that nobody holds the file while the pixels are taken apart.
    samples: Samples = decode_with_opencv(file.pop(), header)
    return planes_of(samples, header)


def _check_whole(found: int, size: int) -> None:
    if found < size:
        raise UndecodableImage(f"The PNG is cut off: {found} of {size} bytes of a part of its pixels are there.")


class _Rows:
    """Takes a stream of unpacked bytes in lengths of the caller's choice."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def take(self, size: int, above: bytes) -> Iterator[bytes | memoryview]:
        """Yield the row above and then the next `size` bytes, or as many as there are."""
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


def _file(form: _Form, colours: bytes, size: int, rows: Iterator[bytes | memoryview]) -> tuple[NDArray[np.uint8], int]:
    # The bytes of a PNG of some rows, unpacked right into their place, and how many of `size` came.
    before = b"".join((SIGNATURE, png_chunk(b"IHDR", struct.pack(">IIBBBBB", *form)), colours))
    after = png_chunk(b"IEND", b"")
    start, length = len(before) + 8, stored_bytes(size)
    file = np.empty(start + length + 4 + len(after), np.uint8)
    view = memoryview(file)  # type: ignore[arg-type]  # NumPy's stubs do not know that arrays are buffers
    view[:start] = before + struct.pack(">I4s", length, b"IDAT")
    found = store(rows, size, view[start : start + length])
    checksum = isal_zlib.crc32(view[start : start + length], isal_zlib.crc32(b"IDAT"))
    view[start + length :] = struct.pack(">I", checksum) + after
    return file, found


def _inflated(bodies: Sequence[memoryview], size: int) -> Iterator[bytes]:
    # At most `size` bytes, in pieces.
    inflater = isal_zlib.decompressobj()
    for start in (body[at : at + _PIECE_BYTES] for body in bodies for at in range(0, len(body), _PIECE_BYTES)):
        packed: bytes | memoryview = start
        is_full = False
        while size and (len(packed) or is_full):  # what is full may hold back more
            most = min(size, _PIECE_BYTES)
            piece: bytes = inflater.decompress(packed, most)
            if piece:
                yield piece
            size, packed, is_full = size - len(piece), inflater.unconsumed_tail, len(piece) == most
        if size == 0 or inflater.eof:
            return
