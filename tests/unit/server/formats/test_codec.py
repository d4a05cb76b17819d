"""Tests of the codec."""

import io
import sys
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from PIL import ImageCms
from round_trips import LIMITS, QUALITY, as_rgba, decode, round_trip

from server.errors import InvalidRequest, UndecodableImage
from server.formats import codec
from server.formats.codec import Image, OutputFormat
from server.formats.header import probe
from server.formats.png.writer import write_png

Encode = Callable[..., bytes]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_pixels_are_planes_of_rgb_between_zero_and_one(samples: np.ndarray, encode: Encode) -> None:
    pixels = decode(encode("PNG")).crop()
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, samples.transpose(2, 0, 1) / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_crop_is_the_same_part_of_the_whole_image(mode: str, orientation: int, encode: Encode) -> None:
    tags = PIL.Image.Exif()
    tags[0x0112] = orientation
    image = decode(encode("PNG", mode, exif=tags))
    whole, rows, columns = image.crop(), slice(3, 17), slice(5, 22)
    into = np.zeros((3, 14, 17), np.float32)
    for part in (image.crop(rows, columns), image.crop(rows, columns, into=into), into):
        np.testing.assert_array_equal(part, whole[:, rows, columns])
    assert whole.flags.c_contiguous


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *(("JPEG", mode) for mode in ("L", "RGB")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
        *(("TIFF", mode) for mode in ("1", "L", "P", "RGB", "RGBA")),
        *(("AVIF", mode) for mode in ("L", "RGB", "RGBA")),
        *(("TIFF", mode) for mode in ("LA", "CMYK")),
        *(("BMP", mode) for mode in ("1", "L", "P", "RGB")),
    ],
)
def test_a_round_trip_preserves_the_appearance_of_every_kind(kind: str, mode: str, encode: Encode) -> None:
    data = encode(kind, mode)
    source, restored = PIL.Image.open(io.BytesIO(data)), round_trip(data)
    assert restored.size == source.size
    np.testing.assert_allclose(as_rgba(restored), as_rgba(source), atol=2)


@pytest.mark.parametrize(("mode", "kept"), [("1", "L"), ("L", "L"), ("LA", "LA"), ("RGB", "RGB"), ("RGBA", "RGBA")])
def test_grey_stays_grey_and_alpha_stays(mode: str, kept: str, encode: Encode) -> None:
    assert round_trip(encode("PNG", mode)).mode == kept


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_preserved_exactly(channels: int) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (7, 5, channels), dtype=np.uint16)
    image = decode(cv2.imencode(".png", samples)[1].tobytes())
    png = codec.encode(image, image.planes, OutputFormat.PNG, QUALITY)
    decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded.reshape(samples.shape), samples)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(kind: str, orientation: int, encode: Encode) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = encode(kind, exif=exif, **({"quality": 100} if kind == "WEBP" else {}))
    upright = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(data)))
    restored = round_trip(data)
    assert restored.size == upright.size
    assert np.abs(as_rgba(restored) - as_rgba(upright)).mean() < 3
    assert restored.getexif().get(0x0112, 1) == 1


def test_a_cmyk_jpeg_is_read_as_rgb(encode: Encode) -> None:
    data = encode("JPEG", "CMYK", quality=95)
    expected = PIL.Image.open(io.BytesIO(data)).convert("RGB")
    assert np.abs(as_rgba(round_trip(data)) - as_rgba(expected)).mean() < 3


def test_a_colour_profile_survives_into_png(encode: Encode) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert round_trip(encode("JPEG", icc_profile=profile)).info["icc_profile"] == profile


@pytest.mark.parametrize("output", list(OutputFormat))
def test_every_output_format_is_close_and_exact_in_size(output: OutputFormat, encode: Encode) -> None:
    data = encode("PNG")
    restored = round_trip(data, output)
    assert restored.format == output.name
    assert restored.size == (40, 24)
    assert np.abs(as_rgba(restored) - as_rgba(PIL.Image.open(io.BytesIO(data)))).mean() < 12


def test_quality_makes_larger_files(encode: Encode) -> None:
    image = decode(encode("PNG"))
    for output in (OutputFormat.JPEG, OutputFormat.WEBP):
        sizes = [len(codec.encode(image, image.planes, output, quality)) for quality in (10, 95)]
        assert sizes[0] < sizes[1]


def test_jpeg_shows_transparent_parts_on_white() -> None:
    file = io.BytesIO()
    PIL.Image.new("RGBA", (16, 16), (200, 0, 0, 0)).save(file, "PNG")
    np.testing.assert_allclose(as_rgba(round_trip(file.getvalue(), OutputFormat.JPEG))[:, :, :3], 255, atol=1)


@pytest.mark.parametrize(("output", "mode"), [(OutputFormat.JPEG, "L"), (OutputFormat.WEBP, "RGB")])
def test_grey_in_a_lossy_format_has_no_colour(output: OutputFormat, mode: str, encode: Encode) -> None:
    restored = round_trip(encode("PNG", "L"), output)
    assert restored.mode == mode
    assert np.ptp(np.asarray(restored.convert("RGB")).astype(int), axis=2).max() <= 2


def test_sixteen_bit_alpha_becomes_eight_bit_alpha_in_webp() -> None:
    samples = np.full((8, 8, 4), 65535, np.uint16)
    samples[:, :4, 3] = 0
    restored = round_trip(cv2.imencode(".png", samples)[1].tobytes(), OutputFormat.WEBP)
    assert np.unique(as_rgba(restored)[:, :, 3]).tolist() == [0, 255]


def test_a_side_that_the_format_cannot_store_is_an_invalid_request() -> None:
    image = Image((np.zeros((1, 16_384), np.uint8),) * 3, None)
    with pytest.raises(InvalidRequest, match="16383"):
        codec.encode(image, image.planes, OutputFormat.WEBP, QUALITY)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_file_cut_short_is_undecodable(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(noise).save(file, kind)
    data = file.getvalue()
    with pytest.raises(UndecodableImage, match=f"(?i){kind}"):
        decode(data[: int(len(data) * share)])


def test_damage_in_the_middle_of_a_png_is_undecodable(encode: Encode) -> None:
    data = bytearray(encode("PNG"))
    middle = data.index(b"IDAT") + 10
    data[middle] ^= 0xFF
    with pytest.raises(UndecodableImage):
        decode(bytes(data))


@pytest.mark.parametrize("output", list(OutputFormat))
def test_other_threads_run_while_pixels_are_decoded_and_encoded(output: OutputFormat) -> None:
    scene = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    image = decode(write_png(cv2.split(scene)))
    data = codec.encode(image, image.planes, output, QUALITY)
    header = probe(data, LIMITS)
    assert lets_others_run(lambda: codec.decode(data, header))
    assert lets_others_run(lambda: codec.encode(image, image.planes, output, QUALITY))


def lets_others_run(work: Callable[[], object]) -> bool:
    """Return whether the work releases the interpreter lock, with forced switches disabled."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    try:
        return any(_runs_beside(work) for _ in range(50))  # a busy machine may not notice at once
    finally:
        sys.setswitchinterval(interval)


def _runs_beside(work: Callable[[], object]) -> bool:
    steps = []

    def run() -> None:
        steps.append("begun")
        work()
        steps.append("ended")

    thread = threading.Thread(target=run)
    thread.start()
    while not steps:
        time.sleep(0)
    seen = steps[-1] == "begun"
    thread.join()
    return seen
