"""Coded sizes, which decoders allocate, from the headers of AV1 and HEVC streams."""

from collections.abc import Iterator
from typing import NamedTuple

from server.formats.heif.boxes import BrokenBoxError

_MAX_UNITS = 10_000  # per coded picture; encoders write one per slice or tile
_SEQUENCE_HEADER = 1  # AV1, section 6.2.2
_SEQUENCE_PARAMETERS = 33  # HEVC, table 7-1
_HEADER_BYTES = 512  # the longest header, without the extensions at its end
_LONGEST_LEB128 = 8


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


class _Bits:
    """Reads bits in sequence; raises BrokenBoxError after the last bit."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise BrokenBoxError("a coded picture's header is cut off")
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def exp_golomb(self) -> int:
        """Read an unsigned Exp-Golomb number (HEVC, section 9.2)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def av1_sizes(data: bytes) -> Iterator[Size]:
    """Yield the largest frame size that each sequence header of an AV1 stream allows (AV1, sections 5.3 and 5.5)."""
    at = 0
    for _ in range(_MAX_UNITS):
        if at >= len(data):
            return
        kind, has_extension, has_size = data[at] >> 3 & 15, data[at] & 4, data[at] & 2
        at += 2 if has_extension else 1
        size, at = _leb128(data, at) if has_size else (len(data) - at, at)
        if size > len(data) - at:
            raise BrokenBoxError("an AV1 unit is cut off")
        if kind == _SEQUENCE_HEADER:
            yield _av1_size(_Bits(data[at : min(at + size, at + _HEADER_BYTES)]))
        at += size
    raise BrokenBoxError(f"a picture has more than {_MAX_UNITS} units")


def hevc_sizes(parameters: bytes, data: bytes) -> Iterator[Size]:
    """Yield the picture size of each parameter set, in the body of an hvcC box and in an item's HEVC stream.

    ISO/IEC 14496-15, section 8.3.3; HEVC, section 7.3.2.2.
    """
    if len(parameters) < 23:
        raise BrokenBoxError("the HEVC parameters are cut off")
    at = 23
    for _ in range(parameters[22]):
        count, at = int.from_bytes(parameters[at + 1 : at + 3], "big"), at + 3
        for _ in range(count):
            at, unit = _unit(parameters, at, 2)
            yield from _hevc_size(unit)
    at, width = 0, 1 + (parameters[21] & 3)
    for _ in range(_MAX_UNITS):
        if at >= len(data):
            return
        at, unit = _unit(data, at, width)
        yield from _hevc_size(unit)
    raise BrokenBoxError(f"a picture has more than {_MAX_UNITS} units")


def _unit(data: bytes, at: int, width: int) -> tuple[int, bytes]:
    start = at + width
    end = start + int.from_bytes(data[at:start], "big")
    if start > len(data) or end > len(data):
        raise BrokenBoxError("an HEVC unit is cut off")
    return end, data[start : min(end, start + _HEADER_BYTES)]


def _hevc_size(unit: bytes) -> Iterator[Size]:
    if not unit or unit[0] >> 1 & 63 != _SEQUENCE_PARAMETERS:
        return
    bits = _Bits(unit[2:].replace(b"\0\0\3", b"\0\0"))  # without the emulation prevention bytes
    bits.take(4)
    layers = bits.take(3)
    bits.take(1)
    bits.take(88 + 8)  # profile, tier and level
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    bits.take(2 * (8 - layers) if layers else 0)
    for has_profile, has_level in present:
        bits.take(88 * has_profile + 8 * has_level)
    bits.exp_golomb()  # the number of the parameter set
    if bits.exp_golomb() == 3:  # 4:4:4
        bits.take(1)
    yield Size(bits.exp_golomb(), bits.exp_golomb())


def _av1_size(bits: _Bits) -> Size:
    bits.take(3)
    bits.take(1)
    if bits.take(1):  # the reduced header of a still picture
        bits.take(5)
    else:
        _skip_timing(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return Size(bits.take(width_bits) + 1, bits.take(height_bits) + 1)


def _skip_timing(bits: _Bits) -> None:
    delay_bits = None
    if bits.take(1):
        bits.take(64)
        if bits.take(1):
            bits.exp_golomb()
        if bits.take(1):  # the decoder model
            delay_bits = bits.take(5) + 1
            bits.take(32 + 5 + 5)
    has_initial_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay_bits is not None and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if has_initial_delay and bits.take(1):
            bits.take(4)


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST_LEB128):
        if at + place >= len(data):
            break
        value |= (data[at + place] & 0x7F) << 7 * place
        if data[at + place] < 0x80:
            return value, at + place + 1
    raise BrokenBoxError("an AV1 number is cut off or too long")
