"""Tests of reading the size from the first bytes of a file."""

import cv2
import numpy as np
import pytest

from server.errors import ImageTooLarge, UnsupportedImage
from server.formats import BY_NAME
from server.formats.header import peek, probe
from server.settings import LimitSettings

LIMITS = LimitSettings()
HEIGHT, WIDTH = 37, 51


def encoded(suffix: str, *flags: int) -> bytes:
    samples = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return cv2.imencode(suffix, samples, flags)[1].tobytes()


FILES = {
    "png": encoded(".png"),
    "jpeg": encoded(".jpg"),
    "progressive jpeg": encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "lossy webp": encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 80),
    "lossless webp": encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 101),
    "bmp": encoded(".bmp"),
}


@pytest.mark.parametrize("kind", FILES)
def test_the_start_of_a_file_gives_the_same_size_as_its_header(kind: str) -> None:
    data = FILES[kind]
    header = probe(data, LIMITS)
    assert peek(data[:700], LIMITS) == (header.format, header.height, header.width)
    assert (header.height, header.width) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", FILES)
def test_any_shorter_start_gives_the_same_size_or_none(kind: str) -> None:
    answers = {peek(FILES[kind][:length], LIMITS) for length in range(700)}
    assert answers == {None, (probe(FILES[kind], LIMITS).format, HEIGHT, WIDTH)}


def test_an_extended_webp_gives_the_size_of_its_canvas() -> None:
    flags, size = b"\x10\0\0\0", (WIDTH - 1).to_bytes(3, "little") + (HEIGHT - 1).to_bytes(3, "little")
    assert BY_NAME["WebP"].dimensions(b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0" + flags + size) == (HEIGHT, WIDTH)


def test_a_bitmap_stored_top_down_has_no_negative_height() -> None:
    data = bytearray(FILES["bmp"])
    data[22:26] = (-HEIGHT).to_bytes(4, "little", signed=True)
    assert BY_NAME["BMP"].dimensions(bytes(data)) == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "start",
    [
        b"\xff\xd8\xff" + b"\xff" * 100_000,
        b"\xff\xd8" + b"\xff\xe0\0\x02" * 50_000,
        b"\xff\xd8\xff\xe0\0\x04ab" + bytes(99),
    ],
)
def test_a_jpeg_without_a_frame_header_gives_no_size(start: bytes) -> None:
    assert BY_NAME["JPEG"].dimensions(start) is None


def test_the_start_of_a_tiff_gives_no_size() -> None:
    assert peek(encoded(".tiff"), LIMITS) is None


def test_the_limits_are_checked_at_the_start_of_a_file() -> None:
    with pytest.raises(ImageTooLarge, match="51 x 37"):
        peek(FILES["png"][:64], LimitSettings(max_image_pixels=HEIGHT * WIDTH - 1))
    with pytest.raises(UnsupportedImage):
        peek(b"GIF89a" + bytes(20), LIMITS)
