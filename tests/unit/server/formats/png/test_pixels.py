"""Tests of decoding PNG in bands, compared with decoding it whole."""

import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest

from server.errors import UndecodableImage
from server.formats import png
from server.formats.base import Planes, PngEffort
from server.formats.png import pixels as png_pixels
from server.formats.png.writer import png_chunk, write_png

MOST = 10_000
RNG = np.random.default_rng(0)
KEYS = {0: b"\0\7", 2: b"\0\7\0\7\0\7"}


def samples(colour_type: int, dtype: type, height: int = 97, width: int = 61) -> np.ndarray:
    """Return a noisy gradient, for which the best filter differs between rows; some pixels are all 7."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    slope = np.add.outer(np.arange(height) * 3, np.arange(width) * 2)[:, :, None] * np.arange(1, channels + 1)
    pixels = (slope * np.iinfo(dtype).max // 3000 + RNG.integers(0, 9, slope.shape)).astype(dtype)
    pixels[::5, ::3] = 7
    return pixels


def decoded(data: bytes) -> Planes:
    return png.decode(data, png.read_header(data, MOST))


def assert_equal(found: Planes, expected: Planes) -> None:
    for plane, other in zip(found.colour, expected.colour, strict=True):
        np.testing.assert_array_equal(plane, other)
    assert (found.alpha is None) == (expected.alpha is None)
    if found.alpha is not None and expected.alpha is not None:
        np.testing.assert_array_equal(found.alpha, expected.alpha)


@pytest.mark.parametrize("band_rows", [0.5, 1, 2, 7, 96, 97])
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
def test_bands_of_any_height_give_the_same_pixels_as_the_whole(
    colour_type: int, dtype: type, keyed: bool, band_rows: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = samples(colour_type, dtype)
    data = write_png(cv2.split(pixels), effort=PngEffort.SMALL)
    if keyed and colour_type in KEYS:
        data = data[:33] + png_chunk(b"tRNS", KEYS[colour_type]) + data[33:]
    whole = decoded(data)
    row = 1 + pixels[0].nbytes
    monkeypatch.setattr(png_pixels, "_BAND_BYTES", int(row * band_rows))
    monkeypatch.setattr(png_pixels, "_PIECE_BYTES", 1000)
    assert_equal(decoded(data), whole)
    assert (whole.alpha is not None) == (colour_type > 3 or keyed)
    np.testing.assert_array_equal(np.dstack(whole.colour), pixels[:, :, : len(whole.colour)])


def interlaced(pixels: np.ndarray, colour_type: int) -> bytes:
    """Encode an interlaced PNG, each pass with the filters that the writer chooses."""
    rows = b""
    for left, top, across, down in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        part = np.ascontiguousarray(pixels[top::down, left::across])
        if part.size:
            one = write_png(cv2.split(part), effort=PngEffort.SMALL)
            at = one.index(b"IDAT")
            rows += zlib.decompress(one[at + 4 : at + 4 + struct.unpack(">I", one[at - 4 : at])[0]])
    depth = pixels.dtype.itemsize * 8
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, colour_type, 0, 0, 1)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("size", [(97, 61), (1, 1), (3, 9), (9, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
def test_the_passes_of_an_interlaced_image_are_read_in_bands_too(
    colour_type: int, dtype: type, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = samples(colour_type, dtype, *size)
    data = interlaced(pixels, colour_type)
    whole = decoded(data)
    planes = [*whole.colour, *([] if whole.alpha is None else [whole.alpha])]
    np.testing.assert_array_equal(np.dstack(planes), pixels)
    monkeypatch.setattr(png_pixels, "_BAND_BYTES", 1)
    assert_equal(decoded(data), whole)


def test_damage_in_a_later_band_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = samples(2, np.uint8)
    row = 1 + pixels[0].nbytes
    monkeypatch.setattr(png_pixels, "_BAND_BYTES", 10 * row)
    rows = np.zeros((97, row), np.uint8)
    for body, said in (
        (zlib.compress(rows[:95].tobytes()), f"{5 * row + 1 * row} of {8 * row} bytes"),
        (zlib.compress(rows.tobytes()[:-1]), f"{8 * row - 1} of {8 * row} bytes"),
        (zlib.compress(rows.tobytes(), 0)[: 70 * row] + b"\xff" * 900, "of|unpacked"),
    ):
        header = struct.pack(">IIBBBBB", 61, 97, 8, 2, 0, 0, 0)
        data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
        with pytest.raises(UndecodableImage, match=said):
            decoded(data)


def test_a_large_photo_is_held_once_while_it_is_read_and_a_part_of_it_while_it_is_written() -> None:
    planes = [np.zeros((2000, 2000), np.uint16)] * 4
    size = 4 * planes[0].nbytes
    tracemalloc.start()
    data = write_png(planes)
    written = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    found = decoded(data)
    read = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert_equal(found, Planes(tuple(planes[:3]), planes[3]))
    assert written < size // 2
    assert read < size + 5 * png_pixels._BAND_BYTES  # the rows, their file, and the pixels of this band and the last
