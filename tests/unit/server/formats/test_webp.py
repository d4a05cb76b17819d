"""Tests of WebP's chunks."""

import io
import struct

import numpy as np
import PIL.Image
import pytest

from server.errors import UndecodableImage
from server.formats import webp

MOST = 10**6
NOISE = np.random.default_rng(0).integers(0, 256, (21, 35, 4), dtype=np.uint8)


def photo(mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(NOISE).convert(mode).save(file, "WEBP", **options)
    return file.getvalue()


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_size_alpha_and_pixels_are_those_of_another_reader(mode: str, lossless: bool) -> None:
    data = photo(mode, lossless=lossless, exact=True)
    header = webp.read_header(data, MOST)
    assert (header.width, header.height, header.has_alpha, header.frames) == (35, 21, mode == "RGBA", 1)
    planes = webp.decode(data, header)
    found = [*planes.colour, *([] if planes.alpha is None else [planes.alpha])]
    expected = np.asarray(PIL.Image.open(io.BytesIO(data)))
    assert np.abs(np.dstack(found).astype(int) - expected).max() <= (0 if lossless else 1)


def test_metadata_is_found_behind_the_pixels() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    header = webp.read_header(photo(exif=exif, xmp=b"<xmp/>", icc_profile=b"profile"), MOST)
    assert header.orientation == 6
    assert (header.metadata.xmp, header.metadata.icc_profile) == (b"<xmp/>", b"profile")


def test_extra_bytes_behind_the_file_are_ignored_and_missing_ones_are_an_error() -> None:
    data = photo()
    assert webp.read_header(data + b"trailing bytes", MOST).width == 35
    with pytest.raises(UndecodableImage):
        webp.read_header(data[:-10], MOST)


def test_a_canvas_that_is_not_its_frame_is_refused_before_decoding() -> None:
    data = bytearray(photo(icc_profile=b"profile"))
    data[24:27] = struct.pack("<I", 7999)[:3]
    with pytest.raises(UndecodableImage, match="8000"):
        webp.read_header(bytes(data), MOST)


def test_the_frames_of_an_animation_are_counted() -> None:
    frames = [PIL.Image.new("RGB", (8, 8), shade) for shade in ("red", "green", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    header = webp.read_header(file.getvalue(), MOST)
    assert (header.frames, header.width) == (3, 8)
