"""Tests of AVIF."""

import io

import numpy as np
import PIL.Image
import pytest

from server.errors import UndecodableImage, UnsupportedImage
from server.imaging.containers import avif

MOST = 10**6
NOISE = np.random.default_rng(0).integers(0, 256, (20, 36, 4), dtype=np.uint8)


def photo(mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(NOISE).convert(mode).save(file, "AVIF", speed=9, **options)
    return file.getvalue()


@pytest.mark.parametrize(("mode", "planes", "has_alpha"), [("L", 1, False), ("RGB", 3, False), ("RGBA", 3, True)])
def test_grey_colour_and_alpha_are_told_apart_and_read(mode: str, planes: int, has_alpha: bool) -> None:
    data = photo(mode)
    header = avif.read_header(data, MOST)
    assert (header.width, header.height, header.is_grey, header.has_alpha) == (36, 20, planes == 1, has_alpha)
    found = avif.decode(data, header)
    assert len(found.colour) == planes
    assert (found.alpha is not None) == has_alpha


def test_exif_whose_tags_overlap_is_refused_before_anything_copies_it() -> None:
    block = b"II*\0\x08\0\0\0" + (500).to_bytes(2, "little")
    block += b"".join(tag.to_bytes(2, "little") + b"\7\0" + b"\x40\x9c\0\0" + b"\x08\0\0\0" for tag in range(500))
    plain = photo()
    with pytest.raises(UndecodableImage, match="EXIF"):
        avif.read_header(plain + block + bytes(40_000), MOST)


def test_a_build_without_the_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data = photo()
    monkeypatch.setattr(avif.plugin(), "SUPPORTED", False)
    with pytest.raises(UnsupportedImage, match="not part of this server's build"):
        avif.read_header(data, MOST)
