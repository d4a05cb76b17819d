"""PNG writer: one pass, several times faster than general-purpose encoders."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from server.formats.base import PngEffort, Samples
from server.formats.samples import interleaved
from server.imaging.metadata import NO_METADATA, Metadata

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = b"XML:com.adobe.xmp"

_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> IHDR colour type: grey, grey+alpha, RGB, RGBA
_SUB_FILTER = 1
_FASTEST = 1
_SMALL = (6, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED)  # level, method, window bits, memory, strategy
# Bytes of rows filtered per step; all five candidates for these rows are in memory.
_BLOCK_BYTES = 2**20

Rows = NDArray[np.uint8]


def write_png(planes: Sequence[Samples], metadata: Metadata = NO_METADATA, effort: PngEffort = PngEffort.FAST) -> bytes:
    """Encode 1 to 4 planes (H, W): grey, grey and alpha, RGB, RGBA; uint8 or uint16 sets the bit depth.

    FAST uses the Sub filter for all rows: one vectorised subtraction, and photos become nearly as small as with SMALL,
    which chooses the best filter per row (PNG specification, third edition, sections 9 and 12.7).
    """
    height, width = planes[0].shape
    depth = planes[0].dtype.itemsize * 8
    header = struct.pack(">IIBBBBB", width, height, depth, _COLOUR_TYPE[len(planes)], 0, 0, 0)
    chunks = [SIGNATURE, png_chunk(b"IHDR", header), *_metadata_chunks(metadata)]
    # Joined once: a join holds the interpreter lock.
    return b"".join((*chunks, *_framed(b"IDAT", _packed(planes, effort)), END))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Frame a chunk's body with length, type and checksum."""
    return b"".join(_framed(kind, [body]))


def _framed(kind: bytes, pieces: Sequence[bytes]) -> tuple[bytes, ...]:
    checksum = isal_zlib.crc32(kind)
    for piece in pieces:
        checksum = isal_zlib.crc32(piece, checksum)
    return struct.pack(">I4s", sum(map(len, pieces)), kind), *pieces, struct.pack(">I", checksum)


END = png_chunk(b"IEND", b"")


def _packed(planes: Sequence[Samples], effort: PngEffort) -> list[bytes]:
    # Works in blocks of rows, since interleaving and filtering all rows would take several times the image's memory.
    height, width = planes[0].shape
    step = len(planes) * planes[0].dtype.itemsize  # bytes per pixel, the distance to the sample on the left
    is_fast = effort is PngEffort.FAST
    block = max(1, _BLOCK_BYTES // (width * step))
    if is_fast and height <= block:  # one call, which gives up the interpreter lock less often
        return [isal_zlib.compress(_sub_filtered(_interleaved(planes, slice(None)), step).data, _FASTEST)]
    compressor = isal_zlib.compressobj(_FASTEST) if is_fast else zlib.compressobj(*_SMALL)
    above = np.zeros(width * step, np.uint8)
    pieces = []
    for top in range(0, height, block):
        rows = _interleaved(planes, slice(top, top + block))
        filtered = _sub_filtered(rows, step) if is_fast else _best_filtered(rows, above, step)
        pieces.append(compressor.compress(filtered.data))
        above = rows[-1]
    return [*pieces, compressor.flush()]


def _interleaved(planes: Sequence[Samples], rows: slice) -> Rows:
    # Returns big-endian samples as bytes: (rows, W * step).
    pixels = interleaved([plane[rows] for plane in planes])
    pixels = pixels.reshape(len(pixels), -1)
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">")).view(np.uint8)


def _metadata_chunks(metadata: Metadata) -> list[bytes]:
    chunks = [png_chunk(kind, body) for kind, body in metadata.colour_chunks]
    if metadata.icc_profile is not None:
        chunks.append(png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(metadata.icc_profile)))
    if metadata.exif is not None:
        chunks.append(png_chunk(b"eXIf", metadata.exif))
    if metadata.xmp is not None:
        chunks.append(png_chunk(b"iTXt", XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp))
    return chunks


def _sub_filtered(rows: Rows, step: int) -> Rows:
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _SUB_FILTER
    filtered[:, 1 : 1 + step] = rows[:, :step]
    np.subtract(rows[:, step:], rows[:, :-step], out=filtered[:, 1 + step :])
    return filtered


def _best_filtered(rows: Rows, above: Rows, step: int) -> Rows:
    # Selects for each row the filter with the least sum of absolute differences.
    current = rows.astype(np.int16)
    up = np.vstack((above.astype(np.int16)[None], current[:-1]))
    left, corner = np.zeros_like(current), np.zeros_like(current)
    left[:, step:], corner[:, step:] = current[:, :-step], up[:, :-step]
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    nearest = np.where(to_up <= to_corner, up, corner)
    paeth = np.where((to_left <= to_up) & (to_left <= to_corner), left, nearest)
    guesses = (np.zeros_like(current), left, up, (left + up) >> 1, paeth)  # filters 0 to 4
    candidates = np.stack([(current - guess).astype(np.uint8) for guess in guesses])
    cost = np.abs(candidates.view(np.int8).astype(np.int16)).sum(axis=2)
    best = cost.argmin(axis=0)
    chosen = candidates[best, np.arange(len(rows))]
    filtered: Rows = np.hstack((best.astype(np.uint8)[:, None], chosen))
    return filtered
