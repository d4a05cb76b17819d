"""ICC profile writer for colour spaces defined by primaries, white and curve (ICC.1:2001-04, chapter 6)."""

import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps code values from 0 to 1 to linear light, 1 for white."""

_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_CURVE_POINTS = 1024
_HEADER_BYTES, _TAG_BYTES = 128, 12
_VERSION = 0x02400000


class Primaries(NamedTuple):
    """Chromaticities (x, y) of white, red, green and blue."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]


def rgb_profile(name: str, primaries: Primaries, curve: Curve) -> bytes | None:
    """Write the profile of an RGB space; None if the primaries are degenerate."""
    columns = _adapted(primaries)
    if columns is None:
        return None
    tags = {colour + b"XYZ": _xyz(columns[:, number]) for number, colour in enumerate((b"r", b"g", b"b"))}
    return _profile(b"RGB ", name, tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _sampled(curve)))


def grey_profile(name: str, curve: Curve) -> bytes:
    """Write the profile of a grey space."""
    return _profile(b"GRAY", name, {b"kTRC": _sampled(curve)})


def _adapted(primaries: Primaries) -> NDArray[np.float64] | None:
    # Returns (3, 3): the XYZ columns of red, green and blue, adapted to the white of the connection space.
    if any(y <= 0 for _, y in primaries):
        return None
    white, *corners = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in primaries)
    matrix = np.stack(corners, axis=1)
    if abs(np.linalg.det(matrix)) < 1e-3 or white.min() <= 0:
        return None
    matrix = matrix * np.linalg.solve(matrix, white)
    scale = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
    adapted: NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ scale @ _BRADFORD @ matrix
    return adapted if np.isfinite(adapted).all() and np.abs(adapted).max() < 4 else None


def _profile(space: bytes, name: str, tags: dict[bytes, bytes]) -> bytes:
    text = name.encode("ascii") + b"\0"
    described = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": described, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _xyz(_D50), **tags}
    table, bodies = bytearray(struct.pack(">I", len(tags))), bytearray()
    start = _HEADER_BYTES + 4 + _TAG_BYTES * len(tags)
    places: dict[bytes, int] = {}
    for tag, body in tags.items():
        if body not in places:  # the three curves are stored once
            places[body] = start + len(bodies)
            bodies += body + bytes(-len(body) % 4)
        table += tag + struct.pack(">II", places[body], len(body))
    size = start + len(bodies)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), _VERSION, b"mntr", space, b"XYZ ") + bytes(12) + b"acsp"
    header += bytes(28) + _numbers(_D50)
    return header.ljust(_HEADER_BYTES, b"\0") + bytes(table + bodies)


def _sampled(curve: Curve) -> bytes:
    light = np.clip(curve(np.linspace(0, 1, _CURVE_POINTS)), 0, 1)
    points = np.rint(light * 65_535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", _CURVE_POINTS) + points.tobytes()


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + _numbers(values)


def _numbers(values: NDArray[np.float64]) -> bytes:
    return struct.pack(">3i", *(round(value * 65_536) for value in values.tolist()))
