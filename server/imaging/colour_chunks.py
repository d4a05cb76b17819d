"""Conversion of PNG's colour chunks to a profile that other formats can store."""

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from server.imaging.icc import Curve, Primaries, grey_profile, rgb_profile

_D65 = (0.3127, 0.3290)
_BT709 = Primaries(_D65, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
# ITU-T H.273, table 2, to which cICP and nclx refer.
_PRIMARIES = {
    1: _BT709,
    4: Primaries((0.310, 0.316), (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),
    5: Primaries(_D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: Primaries(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: Primaries(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    9: Primaries(_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: Primaries((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: Primaries(_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    22: Primaries(_D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
_SRGB_CODE_POINTS = bytes((1, 13, 0, 1))
_IDENTITY_MATRIX, _UNSPECIFIED = 0, 2
# ITU-R BT.2408: diffuse white in candela per square metre. Brighter highlights cannot be represented in 8 bits.
_REFERENCE_WHITE = 203.0
_PQ_PEAK, _HLG_PEAK = 10_000.0, 1_000.0
_UNIT = 100_000  # the scale of gAMA and cHRM
# Encoders write 1/2.2 for the gamma of sRGB, and round its primaries to different numbers of digits.
_SRGB_GAMMA, _GAMMA_TOLERANCE, _CHROMATICITY_TOLERANCE = 0.45455, 0.02, 0.003

Light = NDArray[np.float64]


def profile_of(chunks: Mapping[bytes, bytes], *, is_grey: bool) -> bytes | None:
    """Build a profile equivalent to the chunks cICP, sRGB, gAMA and cHRM; None for sRGB and for unknown values.

    cICP takes precedence over sRGB, and sRGB over the others (PNG specification, third edition, section 4.3).
    Highlights of PQ and HLG above diffuse white are clipped.
    """
    code_points = _with_defaults(chunks.get(b"cICP", b""))
    if code_points == _SRGB_CODE_POINTS:
        return None
    described = _of_code_points(code_points) or _of_numbers(chunks)
    if described is None:
        return None
    name, primaries, curve = described
    return grey_profile(name, curve) if is_grey else rgb_profile(name, primaries, curve)


def _with_defaults(code_points: bytes) -> bytes:
    # Replaces unspecified values by those of sRGB.
    open_pair, rest = code_points[:2], code_points[2:]
    return (
        bytes(usual if code == _UNSPECIFIED else code for code, usual in zip(open_pair, (1, 13), strict=False)) + rest
    )


def _of_code_points(body: bytes) -> tuple[str, Primaries, Curve] | None:
    if len(body) != 4:
        return None
    primaries, transfer, matrix, is_full = body
    if primaries not in _PRIMARIES or transfer not in _TRANSFERS or matrix != _IDENTITY_MATRIX:
        return None
    curve = _TRANSFERS[transfer]
    if not is_full:
        return f"H.273 {primaries}/{transfer} narrow", _PRIMARIES[primaries], lambda code: curve(_widened(code))
    return f"H.273 {primaries}/{transfer}", _PRIMARIES[primaries], curve


def _of_numbers(chunks: Mapping[bytes, bytes]) -> tuple[str, Primaries, Curve] | None:
    if b"sRGB" in chunks:
        return None
    gamma = int.from_bytes(chunks.get(b"gAMA", b""), "big") / _UNIT
    primaries = _primaries(chunks.get(b"cHRM", b"")) or _BT709
    if gamma == 0 or abs(gamma - _SRGB_GAMMA) <= _GAMMA_TOLERANCE * _SRGB_GAMMA:
        if np.abs(np.subtract(primaries, _BT709)).max() <= _CHROMATICITY_TOLERANCE:
            return None
        if gamma == 0:
            return "PNG cHRM", primaries, _srgb
    return "PNG gAMA cHRM", primaries, lambda code: code ** (1 / gamma)


def _primaries(body: bytes) -> Primaries | None:
    if len(body) != 32:
        return None
    white_x, white_y, *rest = (value / _UNIT for value in struct.unpack(">8I", body))
    red_x, red_y, green_x, green_y, blue_x, blue_y = rest
    return Primaries((white_x, white_y), (red_x, red_y), (green_x, green_y), (blue_x, blue_y))


def _widened(code: Light) -> Light:
    return np.clip((code * 255 - 16) / 219, 0, 1)


def _srgb(code: Light) -> Light:
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def _bt709(code: Light) -> Light:
    return np.where(code < 0.081, code / 4.5, ((code + 0.099) / 1.099) ** (1 / 0.45))


def _pq(code: Light) -> Light:
    root = code ** (32 / 2523)
    light: Light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (8192 / 1305)
    return light * (_PQ_PEAK / _REFERENCE_WHITE)


def _hlg(code: Light) -> Light:
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    light: Light = scene**1.2 * (_HLG_PEAK / _REFERENCE_WHITE)
    return light


def _power(exponent: float) -> Curve:
    return lambda code: code**exponent


_TRANSFERS: Mapping[int, Curve] = {
    **dict.fromkeys((1, 6, 14, 15), _bt709),
    4: _power(2.2),
    5: _power(2.8),
    8: _power(1.0),
    13: _srgb,
    16: _pq,
    17: _power(2.6),
    18: _hlg,
}
