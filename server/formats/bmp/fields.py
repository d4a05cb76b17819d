"""BMP bit fields: samples that bit masks select from 16- or 32-bit words."""

import struct
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from server.errors import UndecodableImage, UnsupportedImage
from server.formats.base import Planes, Samples
from server.formats.samples import ROWS_AT_ONCE

_NO_MASKS, _THREE_MASKS, _FOUR_MASKS = 0, 3, 6  # values of the compression field that mean uncompressed
_FILE_HEADER, _SMALLEST_HEADER, _WITH_ALPHA_MASK = 14, 40, 56
_MASKS_AT = 54  # the same offset inside larger headers and after the smallest one
_USUAL_MASKS = {16: (0x7C00, 0x03E0, 0x001F, 0), 32: (0xFF0000, 0x00FF00, 0x0000FF, 0)}
_WITHOUT_WORDS = (0xFF0000, 0x00FF00, 0x0000FF, 0xFF000000)  # the masks to use if the file states only zeros
_MAX_BITS = 16


class _Field(NamedTuple):
    mask: int
    shift: int
    bits: int

    @classmethod
    def of(cls, mask: int) -> Self:
        shift = (mask & -mask).bit_length() - 1
        return cls(mask, shift, mask.bit_length() - shift)


class Fields(NamedTuple):
    """Position of the pixel words, and the bits that hold red, green, blue and, with a fourth mask, alpha."""

    width: int
    height: int
    is_top_down: bool
    word: int
    """Bits per pixel."""
    offset: int
    masks: tuple[int, ...]

    @property
    def has_alpha(self) -> bool:
        return len(self.masks) == 4

    @property
    def depth(self) -> int:
        return 8 if all(_Field.of(mask).bits <= 8 for mask in self.masks) else 16


def find_fields(data: bytes) -> Fields | None:
    """Read the bit fields from a BMP header; None if it has none. Raises UnsupportedImage for invalid masks."""
    if len(data) < _MASKS_AT:
        return None
    (size,) = struct.unpack_from("<I", data, _FILE_HEADER)
    width, height, _, word, kind = struct.unpack_from("<iiHHI", data, _FILE_HEADER + 4)
    if size < _SMALLEST_HEADER or word not in _USUAL_MASKS or kind not in (_NO_MASKS, _THREE_MASKS, _FOUR_MASKS):
        return None
    mask_bytes = 0
    masks: tuple[int, ...] = _USUAL_MASKS[word]
    if kind != _NO_MASKS:
        count = 4 if kind == _FOUR_MASKS or size >= _WITH_ALPHA_MASK else 3
        mask_bytes = 4 * count if size == _SMALLEST_HEADER else 0
        if len(data) < _MASKS_AT + 4 * count:
            raise UndecodableImage("The BMP is cut off in its header.")
        masks = (*struct.unpack_from(f"<{count}I", data, _MASKS_AT), 0)[:4]
        if not any(masks) and word == 32:
            masks = _WITHOUT_WORDS
    _check(masks, word)
    (offset,) = struct.unpack_from("<I", data, 10)
    offset = offset or _FILE_HEADER + size + mask_bytes
    return Fields(width, abs(height), height < 0, word, offset, masks if masks[3] else masks[:3])


def decode_fields(data: bytes, fields: Fields) -> Planes:
    """Extract the samples, scaled to their full range; an alpha plane of zeros is dropped."""
    each = fields.word // 8
    stride = -(-fields.width * each // 4) * 4
    needed = stride * (fields.height - 1) + fields.width * each
    body = data[fields.offset : fields.offset + stride * fields.height]
    if len(body) < needed:
        raise UndecodableImage(f"The BMP is cut off: {len(body)} of {needed} bytes of pixels are present.")
    words = np.frombuffer(body.ljust(stride * fields.height, b"\0"), f"<u{each}").reshape(fields.height, -1)
    words = words[:, : fields.width]
    if not fields.is_top_down:
        words = words[::-1]
    planes = [_samples(words, _Field.of(mask), fields.depth) for mask in fields.masks]
    alpha = planes.pop() if fields.has_alpha else None
    # Writers without alpha support fill it with zeros, and a fully transparent picture is unlikely.
    return Planes(tuple(planes), alpha if alpha is not None and alpha.any() else None)


def _check(masks: tuple[int, ...], word: int) -> None:
    used_bits = 0
    for number, mask in enumerate(masks):
        field = _Field.of(mask) if mask else None
        is_sound = field is not None and mask == ((1 << field.bits) - 1) << field.shift and mask < 1 << word
        if (number < 3 or mask) and (not is_sound or used_bits & mask):
            kinds = " ".join(f"{one:#x}" for one in masks)
            raise UnsupportedImage(
                f"BMP with the masks {kinds} is not supported: each must be adjacent bits that no other mask uses."
            )
        used_bits |= mask


def _samples(words: NDArray[np.uint16] | NDArray[np.uint32], field: _Field, depth: int) -> Samples:
    bits = min(field.bits, _MAX_BITS)
    dtype = np.uint8 if depth == 8 else np.uint16
    full = np.iinfo(dtype).max
    stretched = np.rint(np.arange(1 << bits) * (full / ((1 << bits) - 1))).astype(dtype)
    plane = np.empty(words.shape, dtype)
    for top in range(0, len(words), ROWS_AT_ONCE):
        rows = slice(top, top + ROWS_AT_ONCE)
        plane[rows] = stretched[(words[rows] & words.dtype.type(field.mask)) >> (field.shift + field.bits - bits)]
    return plane
