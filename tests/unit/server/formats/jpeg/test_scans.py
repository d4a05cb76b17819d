"""Tests of the completeness of the scans of a JPEG."""

import pytest

from server.errors import UnsupportedImage
from server.formats.jpeg.scans import Scans


def scan(*components: int, band: tuple[int, int] = (0, 63), bit: int = 0) -> bytes:
    listed = b"".join(bytes((component, 0)) for component in components)
    return bytes((len(components),)) + listed + bytes((*band, bit))


def test_a_sequential_picture_is_complete_with_its_last_component() -> None:
    scans = Scans(1, (1, 2, 3), is_progressive=False)
    scans.add(scan(1, 3))
    assert not scans.is_complete
    scans.add(scan(2))
    assert scans.is_complete


def test_a_progressive_picture_is_complete_with_the_last_bit_of_its_last_band() -> None:
    scans = Scans(1, (1,), is_progressive=True)
    for parameters in (scan(1, band=(0, 0), bit=1), scan(1, band=(1, 63)), scan(1, band=(0, 0), bit=0x10)):
        assert not scans.is_complete
        scans.add(parameters)
    assert scans.is_complete


@pytest.mark.parametrize("parameters", [b"", b"\1", b"\4\1\0\0\x3f\0", scan(9)])
def test_a_malformed_scan_header_completes_nothing(parameters: bytes) -> None:
    scans = Scans(1, (1,), is_progressive=False)
    scans.add(parameters)
    assert not scans.is_complete


@pytest.mark.parametrize(
    ("pixels", "most"), [(1, 100), (10_000_000, 100), (25_000_000, 40), (50_000_000, 20), (10**9, 20)]
)
def test_large_pictures_have_fewer_scans(pixels: int, most: int) -> None:
    scans = Scans(pixels, (1,), is_progressive=True)
    for _ in range(most):
        scans.add(scan(1))
    with pytest.raises(UnsupportedImage, match=f"more than {most} scans"):
        scans.add(scan(1))
