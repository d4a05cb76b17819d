"""Tests of colour profiles."""

import struct

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms

from server.imaging import colour

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile(space: bytes, *tags: tuple[bytes, bytes]) -> bytes:
    """Return a handmade profile: header, tag table, tags (ICC.1:2022, section 7)."""
    table, bodies = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, body in tags:
        body += b"\0" * (-len(body) % 4)
        table += name + struct.pack(">II", start + len(bodies), len(body))
        bodies += body
    head = struct.pack(">I4sI4s4s4s", start + len(bodies), b"lcms", 0x02400000, b"prtr", space, b"Lab ") + bytes(12)
    head += b"acsp" + bytes(28) + struct.pack(">3i", 63_190, 65_536, 54_061)  # the white of D50
    return head.ljust(128, b"\0") + table + bodies


def inks_that_are_all_middle_grey() -> bytes:
    """Return a profile that maps all inks to L* 50, which shows whether a conversion used it."""
    identity = bytes(range(256))
    lut = (
        b"mft1"
        + bytes(4)
        + bytes((4, 3, 2, 0))
        + struct.pack(">9i", *(65_536 * one for one in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    )
    lut += identity * 4 + bytes((128, 128, 128)) * 16 + identity * 3
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"inks\0" + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63_190, 65_536, 54_061)
    return profile(b"CMYK", (b"desc", text), (b"wtpt", white), (b"A2B0", lut), (b"A2B1", lut))


def test_cmyk_is_converted_by_its_profile() -> None:
    inks = PIL.Image.new("CMYK", (4, 3), (0, 255, 255, 0))
    planes = colour.cmyk_to_rgb(inks, inks_that_are_all_middle_grey())
    assert [plane.shape for plane in planes] == [(3, 4)] * 3
    # Black point compensation stretches a profile whose darkest colour is grey, so only neutrality is checked.
    assert np.ptp([plane[0, 0] for plane in planes]) <= 2
    assert planes[0][0, 0] != 255


@pytest.mark.parametrize("broken", [None, b"", b"noise", SRGB, inks_that_are_all_middle_grey()[:-8]])
def test_cmyk_without_a_valid_profile_is_complemented(broken: bytes | None) -> None:
    planes = colour.cmyk_to_rgb(PIL.Image.new("CMYK", (4, 3), (0, 255, 255, 0)), broken)
    assert [plane[0, 0] for plane in planes] == [255, 0, 0]


def test_a_profile_fits_only_its_own_space_and_only_if_complete() -> None:
    assert colour.fits(SRGB, colour.RGB)
    assert not colour.fits(SRGB, colour.GREY)
    assert not colour.fits(SRGB[:-1], colour.RGB)
    assert not colour.fits(SRGB + b"\0", colour.RGB)
    assert not colour.fits(None, colour.RGB)
    assert colour.fits(inks_that_are_all_middle_grey(), colour.CMYK)


def test_grey_is_converted_to_neutral_by_a_grey_profile() -> None:
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, 256)  # linear light
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63_190, 65_536, 54_061)
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"grey\0" + bytes(78)
    linear = bytearray(profile(b"GRAY", (b"desc", text), (b"wtpt", white), (b"kTRC", curve)))
    linear[12:16], linear[20:24] = b"mntr", b"XYZ "
    assert colour.fits(bytes(linear), colour.GREY)
    plane = np.full((2, 2), 128, np.uint8)
    converted = colour.to_srgb((plane,), bytes(linear))
    assert converted is not None
    assert all(abs(int(one[0, 0]) - 188) <= 1 for one in converted)  # half the light is 188 in sRGB


def test_a_malformed_profile_converts_nothing() -> None:
    assert colour.to_srgb((np.zeros((2, 2), np.uint8),) * 3, b"noise" * 100) is None
