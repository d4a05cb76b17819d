"""Tests of PNG's colour chunks, with LittleCMS applying the equivalent profile."""

import struct

import numpy as np
import pytest

from server.imaging import colour
from server.imaging.colour_chunks import profile_of

SRGB_CHRM = (31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000)
P3_CHRM = (31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000)


def gama(value: int) -> dict[bytes, bytes]:
    return {b"gAMA": struct.pack(">I", value)}


def chrm(values: tuple[int, ...]) -> dict[bytes, bytes]:
    return {b"cHRM": struct.pack(">8I", *values)}


def cicp(primaries: int, transfer: int, matrix: int = 0, is_full: int = 1) -> dict[bytes, bytes]:
    return {b"cICP": bytes((primaries, transfer, matrix, is_full))}


def shown(words: dict[bytes, bytes], *samples: int) -> list[int]:
    """Convert samples of red, green and blue, or of grey, to sRGB."""
    profile = profile_of(words, is_grey=len(samples) == 1)
    assert profile is not None
    assert colour.fits(profile, colour.GREY if len(samples) == 1 else colour.RGB)
    converted = colour.to_srgb(tuple(np.full((2, 2), sample, np.uint8) for sample in samples), profile)
    assert converted is not None
    return [int(plane[0, 0]) for plane in converted]


@pytest.mark.parametrize(
    "words",
    [
        {},
        {b"sRGB": b"\0"},
        {b"sRGB": b"\0"} | gama(100_000),
        gama(45_455),
        gama(45_000) | chrm(SRGB_CHRM),
        gama(45_455) | chrm((31_269, 32_899, 63_999, 33_001, 30_000, 60_000, 15_000, 5_999)),
        chrm(SRGB_CHRM),
        cicp(1, 13),
        cicp(1, 13) | gama(100_000),
        gama(0),
        gama(0) | chrm((0,) * 8),
        chrm((1,) * 8) | gama(100_000),
        cicp(2, 2),
        cicp(1, 2),
        cicp(3, 3),
        cicp(9, 16, 1),
        {b"cICP": b"\1"},
    ],
)
def test_srgb_and_unknown_values_make_no_profile(words: dict[bytes, bytes]) -> None:
    assert profile_of(words, is_grey=False) is None


@pytest.mark.parametrize(
    ("words", "samples", "expected"),
    [
        (gama(100_000), (55, 55, 55), [128, 128, 128]),
        (gama(100_000) | chrm(SRGB_CHRM), (55, 55, 55), [128, 128, 128]),
        (cicp(1, 8), (55, 55, 55), [128, 128, 128]),
        (gama(100_000), (55,), [128, 128, 128]),
        (gama(55_556), (100, 100, 100), [119, 119, 119]),
        (cicp(12, 13), (255, 255, 255), [255, 255, 255]),
        (cicp(12, 13), (128, 128, 128), [128, 128, 128]),
        (cicp(12, 13), (255, 0, 0), [255, 0, 0]),
        (cicp(12, 13), (100, 150, 100), [83, 152, 95]),
        (cicp(12, 2), (100, 150, 100), [83, 152, 95]),
        (gama(45_455) | chrm(P3_CHRM), (100, 150, 100), [83, 153, 94]),
        (chrm(P3_CHRM), (100, 150, 100), [83, 152, 95]),
        (cicp(12, 13) | gama(100_000), (100, 150, 100), [83, 152, 95]),
        (cicp(9, 16), (148, 148, 148), [255, 255, 255]),
        (cicp(9, 16), (0, 0, 0), [0, 0, 0]),
        (cicp(9, 18), (255, 255, 255), [255, 255, 255]),
        (cicp(1, 13, is_full=0), (16, 16, 16), [0, 0, 0]),
        (cicp(1, 13, is_full=0), (235, 235, 235), [255, 255, 255]),
    ],
)
def test_the_profile_is_equivalent_to_the_chunks(
    words: dict[bytes, bytes], samples: tuple[int, ...], expected: list[int]
) -> None:
    np.testing.assert_allclose(shown(words, *samples), expected, atol=2)


def test_pq_rises_to_diffuse_white_and_is_clipped_there() -> None:
    levels = [shown(cicp(9, 16), level, level, level)[0] for level in range(0, 256, 15)]
    assert levels == sorted(levels)
    assert levels[-1] == 255
    # 0.1 of 203 candela is code 0.36, and 0.1 of the light is 89 in sRGB.
    np.testing.assert_allclose(shown(cicp(9, 16), 92, 92, 92), [89] * 3, atol=3)
