"""BMP reader: pixels after a small header, which may include a colour profile."""

import io
import struct

import cv2
from PIL import BmpImagePlugin

from server.errors import UndecodableImage, UnsupportedImage
from server.formats.base import Header, Planes, check_metadata_size
from server.formats.bmp.fields import decode_fields, find_fields
from server.formats.samples import decode_with_opencv, planes_of
from server.imaging.colour_chunks import profile_of
from server.imaging.metadata import Metadata

_OFFSET_AT, _FILE_HEADER = 10, 14
# Sizes of the headers that follow the file header, BITMAPCOREHEADER, BITMAPV4HEADER and BITMAPV5HEADER.
_CORE_BYTES, _V4_BYTES, _V5_BYTES = 12, 108, 124
_DEPTHS = (1, 4, 8, 16, 24, 32)
_HELD_FILES = {4: "JPEG", 5: "PNG"}  # values of the compression field
# Offsets of the fields of the last two.
_SPACE_AT, _ENDPOINTS_AT, _GAMMAS_AT, _PROFILE_AT = 56, 60, 96, 112
_CALIBRATED, _EMBEDDED = bytes(4), b"DEBM"
_FIXED_2_30, _FIXED_16_16, _PNG_UNIT = 2.0**30, 2.0**16, 100_000


def read_header(data: bytes, max_metadata_bytes: int) -> Header:
    """Read the size, the bit masks and the colour profile; BMP has no other metadata."""
    _check_kind(data)
    metadata = _metadata(data, max_metadata_bytes)
    if fields := find_fields(data):
        size = fields.width, fields.height
        return Header("BMP", *size, is_grey=False, has_alpha=fields.has_alpha, depth=fields.depth, metadata=metadata)
    image = _opened(data)
    width, height = image.size
    return Header("BMP", width, height, is_grey=image.mode in ("1", "L"), has_alpha=False, metadata=metadata)


def decode(data: bytes, header: Header) -> Planes:
    """Decode the pixels."""
    if fields := find_fields(data):  # OpenCV supports few mask orders, and does not scale five bits to eight
        return decode_fields(data, fields)
    # Some writers state no offset of the pixels, or that of the palette; Pillow then finds them, and OpenCV does not.
    offset = struct.pack("<I", _opened(data).tile[0].offset)
    if data[_OFFSET_AT:_FILE_HEADER] != offset:
        data = b"".join((data[:_OFFSET_AT], offset, memoryview(data)[_FILE_HEADER:]))
    # Left unchanged, OpenCV takes every picture with the oldest header for grey.
    mode = cv2.IMREAD_COLOR if _header_bytes(data) == _CORE_BYTES else cv2.IMREAD_UNCHANGED
    return planes_of(decode_with_opencv(data, header, mode), header)


def _header_bytes(data: bytes) -> int:
    return int.from_bytes(data[_FILE_HEADER : _FILE_HEADER + 4], "little")


def _check_kind(data: bytes) -> None:
    header = data[_FILE_HEADER : _FILE_HEADER + 20].ljust(20, b"\0")
    is_core = _header_bytes(data) == _CORE_BYTES
    held = None if is_core else _HELD_FILES.get(int.from_bytes(header[16:20], "little"))
    if held:
        raise UnsupportedImage(f"BMP that holds a {held} is not supported: send the {held} itself.")
    depth = int.from_bytes(header[10:12] if is_core else header[14:16], "little")
    if depth and depth not in _DEPTHS:
        *most, last = _DEPTHS
        kinds = ", ".join(map(str, most))
        raise UnsupportedImage(f"BMP of {depth} bits per pixel is not supported: use {kinds} or {last}.")


def _opened(data: bytes) -> BmpImagePlugin.BmpImageFile:
    try:
        return BmpImagePlugin.BmpImageFile(io.BytesIO(data))
    except Exception as error:  # hostile bytes can raise anything
        raise UndecodableImage("The upload starts like a BMP file, but its header cannot be read.") from error


def _metadata(data: bytes, max_metadata_bytes: int) -> Metadata:
    header = data[_FILE_HEADER : _FILE_HEADER + min(_header_bytes(data), _V5_BYTES)]
    space = header[_SPACE_AT : _SPACE_AT + 4]
    if len(header) >= _V5_BYTES and space == _EMBEDDED:
        offset, length = struct.unpack_from("<II", header, _PROFILE_AT)
        check_metadata_size("colour profile", length, max_metadata_bytes)
        start = _FILE_HEADER + offset
        return Metadata(icc_profile=data[start : start + length] or None)
    if len(header) >= _V4_BYTES and space == _CALIBRATED:
        return Metadata(colour_chunks=_calibration(header))
    return Metadata()


def _calibration(header: bytes) -> tuple[tuple[bytes, bytes], ...]:
    # Returns the primaries and curves of the colour space as PNG chunks; most writers set them to zero.
    corners = [
        tuple(value / _FIXED_2_30 for value in struct.unpack_from("<3i", header, _ENDPOINTS_AT + 12 * number))
        for number in range(3)
    ]
    gammas = [value / _FIXED_16_16 for value in struct.unpack_from("<3I", header, _GAMMAS_AT)]
    white = tuple(map(sum, zip(*corners, strict=True)))
    if min(gammas) <= 0 or max(gammas) > 1.01 * min(gammas) or min(map(sum, corners)) <= 0:
        return ()
    places = [round(value / sum(xyz) * _PNG_UNIT) for xyz in (white, *corners) for value in xyz[:2]]
    if min(places) < 0 or max(places) > _PNG_UNIT:
        return ()
    gamma = round(_PNG_UNIT / gammas[1])
    chunks = ((b"gAMA", struct.pack(">I", min(gamma, 2**31 - 1))), (b"cHRM", struct.pack(">8I", *places)))
    return chunks if profile_of(dict(chunks), is_grey=False) else ()
