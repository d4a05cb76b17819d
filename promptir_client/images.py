"""Conversion of the accepted image types to bytes."""

import io
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Union

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import PIL.Image

Image = Union[
    str,
    os.PathLike[str],
    bytes,
    bytearray,
    memoryview,
    BinaryIO,
    "PIL.Image.Image",
    "npt.NDArray[np.uint8 | np.uint16]",
]
"""Path, bytes of a file, open file, Pillow image, or array of (height, width[, 1 to 4 channels]), RGB or RGBA."""

# Pillow modes that PNG supports, and the conversions of others that keep alpha or depth; the rest becomes RGB.
# I;16B has the samples of I;16 in the other byte order, and Pillow reads 16-bit PNG files as I.
_PNG_MODES = {"1", "L", "LA", "I;16", "P", "RGB", "RGBA"}
_CONVERSIONS = {"I": "I;16", "I;16B": "I;16", "I;16L": "I;16", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}
_GREY, _RGB, _GREY_ALPHA, _RGBA = 0, 2, 4, 6
_COLOUR_TYPES = {1: _GREY, 2: _GREY_ALPHA, 3: _RGB, 4: _RGBA}
# On a fast network, more compression costs more time than it saves.
_EFFORT = 1


def upload_of(image: Image) -> bytes:
    """Convert an image to bytes: files unchanged, pixels as PNG; raises TypeError or ValueError for anything else."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    # Both libraries are optional; if one is not loaded, the image cannot be an instance of its types.
    if (pillow := sys.modules.get("PIL.Image")) is not None and isinstance(image, pillow.Image):
        return _png_of_pillow(image)
    if (numpy := sys.modules.get("numpy")) is not None and isinstance(image, numpy.ndarray):
        return _png_of_array(image)
    if hasattr(image, "read"):
        data = image.read()
        if isinstance(data, str):
            raise TypeError("a file opened as text is not an image: open it with mode 'rb'")
        return bytes(data)
    kind = type(image).__name__
    raise TypeError(f"an image must be a path, bytes, an open file, a Pillow image or a numpy array, not {kind}")


def _png_of_pillow(image: "PIL.Image.Image") -> bytes:
    if image.mode == "F":
        raise TypeError("a Pillow image of floats has no defined white: convert it to L, RGB or I;16")
    kept = image if image.mode in _PNG_MODES else image.convert(_CONVERSIONS.get(image.mode, "RGB"))
    buffer = io.BytesIO()
    kept.save(buffer, "PNG", compress_level=_EFFORT, exif=image.getexif(), icc_profile=image.info.get("icc_profile"))
    return buffer.getvalue()


def _png_of_array(array: "npt.NDArray[Any]") -> bytes:
    """Encode a PNG (RFC 2083) without Pillow, which cannot write 16-bit colour."""
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        raise TypeError(f"an array of {array.dtype} has no defined white: send uint8 or uint16")
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"an array of shape {array.shape} is not an image: send (height, width[, channels])")
    height, width = array.shape[:2]
    channels = array.shape[2] if array.ndim == 3 else 1
    if channels not in _COLOUR_TYPES:
        raise ValueError(f"{channels} channels: send 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA)")
    depth = 8 * array.dtype.itemsize
    rows = array.astype(array.dtype.newbyteorder(">"), copy=False).tobytes()  # PNG is big-endian
    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[start : start + stride] for start in range(0, len(rows), stride))
    header = struct.pack(">IIBBBBB", width, height, depth, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered, _EFFORT)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, chunks))


def _chunk(chunk: tuple[bytes, bytes]) -> bytes:
    kind, data = chunk
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
