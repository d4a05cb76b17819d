"""PNG writer: pixels to a PNG file in one pass, several times faster than the general encoders."""

import struct
import zlib

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> IHDR colour type: grey, grey+alpha, RGB, RGBA
_SUB_FILTER = 1
_FASTEST = 1


def write_png(pixels: NDArray[np.uint8] | NDArray[np.uint16], icc_profile: bytes | None = None) -> bytes:
    """Encode (H, W, C) pixels, C = 1 grey, 2 grey+alpha, 3 RGB, 4 RGBA; uint8 or uint16 sets the bit depth.

    Rows use the Sub filter: it costs one vectorised subtraction and serves photos nearly as well as a search
    for the best filter per row (PNG specification, third edition, sections 9 and 11).
    """
    height, width, channels = pixels.shape
    depth = pixels.dtype.itemsize * 8
    header = struct.pack(">IIBBBBB", width, height, depth, _COLOUR_TYPE[channels], 0, 0, 0)
    chunks = [SIGNATURE, _chunk(b"IHDR", header)]
    if icc_profile is not None:
        chunks.append(_chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc_profile)))
    chunks.append(_chunk(b"IDAT", isal_zlib.compress(_sub_filtered(pixels), _FASTEST)))
    chunks.append(_chunk(b"IEND", b""))
    return b"".join(chunks)


def _sub_filtered(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    height = pixels.shape[0]
    step = pixels.shape[2] * pixels.dtype.itemsize  # bytes of a pixel: the distance the filter looks back
    big_endian = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">"))
    rows = big_endian.view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _SUB_FILTER
    filtered[:, 1 : 1 + step] = rows[:, :step]
    np.subtract(rows[:, step:], rows[:, :-step], out=filtered[:, 1 + step :])
    return filtered


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = isal_zlib.crc32(body, isal_zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(body)), kind, body, struct.pack(">I", checksum)))
