"""Tests of the codec: depths, alpha, grey and layouts of pixels are preserved."""

import io
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from round_trips import QUALITY, as_rgba, decode, round_trip, saved

from server.formats import codec
from server.formats.codec import OutputFormat

Encode = Callable[..., bytes]


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    others = b"".join(chunk(*one) for one in extra)
    return b"\x89PNG\r\n\x1a\n" + header + others + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


LOSSLESS = (OutputFormat.PNG, OutputFormat.TIFF)


@pytest.mark.parametrize("output", LOSSLESS)
@given(
    st.tuples(
        st.sampled_from([np.dtype(np.uint8), np.dtype(np.uint16)]),
        st.integers(1, 40),
        st.integers(1, 40),
        st.sampled_from([1, 3, 4]),
    ).flatmap(lambda kind: hnp.arrays(kind[0], kind[1:]))
)
@settings(deadline=None, max_examples=40)
def test_a_round_trip_loses_nothing_for_any_size_depth_and_channels(output: OutputFormat, samples: np.ndarray) -> None:
    image = decode(cv2.imencode(".png", samples)[1].tobytes())
    again = decode(codec.encode(image, image.planes, output, QUALITY))
    np.testing.assert_array_equal(again.crop(), image.crop())
    assert (again.dtype, again.is_grey) == (samples.dtype, samples.shape[2] == 1)
    assert (again.alpha is None) == (samples.shape[2] < 4)
    if again.alpha is not None:
        np.testing.assert_array_equal(again.alpha, samples[:, :, 3])


@pytest.mark.parametrize("output", [OutputFormat.PNG, OutputFormat.TIFF, OutputFormat.WEBP, OutputFormat.AVIF])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_comes_back_bit_for_bit_at_any_quality(output: OutputFormat, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (33, 47, 4), dtype=np.uint8)
    image = decode(saved(PIL.Image.fromarray(noise).convert(mode), "PNG"))
    restored = PIL.Image.open(io.BytesIO(codec.encode(image, image.planes, output, 30)))
    np.testing.assert_array_equal(np.asarray(restored.getchannel("A")), noise[:, :, 3])


@pytest.mark.parametrize("output", LOSSLESS)
def test_a_colour_under_full_transparency_is_kept(output: OutputFormat) -> None:
    data = saved(PIL.Image.new("RGBA", (5, 4), (200, 100, 50, 0)), "PNG")
    assert round_trip(data, output).getpixel((2, 2)) == (200, 100, 50, 0)


def test_sixteen_bits_of_grey_with_alpha_stay_both() -> None:
    rows = b"\0\x01\x02\x12\x34\xff\xfe\x56\x78"
    image = decode(raw_png(2, 1, 16, 4, rows))
    for output in LOSSLESS:
        again = decode(codec.encode(image, image.planes, output, QUALITY))
        assert again.is_grey
        assert again.alpha is not None
        assert again.alpha.tolist() == [[0x1234, 0x5678]]
        assert np.rint(again.crop()[0] * 65535).tolist() == [[0x0102, 0xFFFE]]


@pytest.mark.parametrize(
    ("depth", "rows", "key", "alpha"),
    [
        (8, b"\0\x05\x06\x07", b"\0\x06", [255, 0, 255]),
        (2, b"\0\x6c", b"\0\x02", [255, 0, 255]),
        (16, b"\0\x00\x05\x01\x06\x00\x06", b"\x01\x06", [65535, 0, 65535]),
        (8, b"\0\x05\x06\x07", b"\x01\x06", [255, 255, 255]),
    ],
)
def test_the_one_transparent_grey_of_a_png_becomes_alpha(depth: int, rows: bytes, key: bytes, alpha: list[int]) -> None:
    image = decode(raw_png(3, 1, depth, 0, rows, (b"tRNS", key)))
    assert image.is_grey
    assert image.alpha is not None
    assert image.alpha.tolist() == [alpha]


def test_the_one_transparent_colour_of_a_png_becomes_alpha() -> None:
    image = decode(raw_png(2, 1, 8, 2, b"\0\1\2\3\4\5\6", (b"tRNS", b"\0\1\0\2\0\3")))
    assert image.alpha is not None
    assert image.alpha.tolist() == [[0, 255]]


def test_a_palette_of_greys_is_grey_and_one_of_colours_is_not() -> None:
    grey = raw_png(2, 1, 8, 3, b"\0\0\1", (b"PLTE", b"\7\7\7\xc8\xc8\xc8"))
    assert decode(grey).is_grey
    assert np.rint(decode(grey).crop()[0] * 255).tolist() == [[7, 200]]
    assert not decode(raw_png(2, 1, 8, 3, b"\0\0\1", (b"PLTE", b"\7\7\7\xc8\xc8\xc9"))).is_grey


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (3, 9), (40, 24)])
def test_interlaced_pngs_of_any_size_are_read(mode: str, size: tuple[int, int]) -> None:
    # OpenCV and Pillow do not write interlaced files, so this test builds the seven passes.
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    image = PIL.Image.fromarray(noise)
    image = image if mode == "RGBA" else image.convert("RGB").convert(mode)
    samples = np.asarray(image).reshape(size[1], size[0], -1)
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    parts = [samples[top::down, left::across] for left, top, across, down in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    palette = ((b"PLTE", bytes(image.getpalette() or [])),) if mode == "P" else ()
    colour = {"L": 0, "P": 3, "RGB": 2, "RGBA": 6}[mode]
    plain = bytearray(raw_png(*size, 8, colour, rows, *palette))
    plain[28] = 1
    plain[29:33] = struct.pack(">I", zlib.crc32(plain[12:29]))
    np.testing.assert_array_equal(as_rgba(round_trip(bytes(plain))), as_rgba(image))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_progressive_jpegs_are_read(mode: str, encode: Encode) -> None:
    data = encode("JPEG", mode, progressive=True)
    assert np.abs(as_rgba(round_trip(data)) - as_rgba(PIL.Image.open(io.BytesIO(data)))).max() <= 2


def test_cmyk_without_a_profile_is_complemented() -> None:
    image = PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):
        assert np.abs(as_rgba(round_trip(saved(image, kind)))[8, 8] - [255, 0, 0, 255]).max() <= 2


@pytest.mark.parametrize("depth", [10, 12])
def test_deep_avifs_are_read_in_full(depth: int) -> None:
    ramp = np.arange(64 * 32, dtype=np.uint16).reshape(32, 64) * (2**depth // 2048)
    samples = np.dstack((ramp, ramp, ramp))
    options = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100]
    image = decode(cv2.imencode(".avif", samples, options)[1].tobytes())
    assert image.dtype == np.uint16
    np.testing.assert_allclose(image.crop(), np.stack([ramp] * 3) / (2**depth - 1), atol=3 / 2**depth)


def test_grey_with_alpha_has_no_colour_in_any_format() -> None:
    rng = np.random.default_rng(0)
    grey = PIL.Image.fromarray(rng.integers(0, 256, (24, 24, 2), dtype=np.uint8), "LA")
    image = decode(saved(grey, "PNG"))
    for output in (OutputFormat.WEBP, OutputFormat.AVIF, OutputFormat.JPEG):
        restored = PIL.Image.open(io.BytesIO(codec.encode(image, image.planes, output, QUALITY))).convert("RGB")
        assert np.ptp(np.asarray(restored).astype(int), axis=2).max() <= 2
