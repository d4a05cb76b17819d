"""Tests of the PNG writer, against two independent decoders."""

import io

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import ImageCms

from server.formats.output import PngEffort
from server.formats.png.writer import write_png
from server.imaging.metadata import Metadata

CHANNELS = st.sampled_from([1, 2, 3, 4])
DTYPES = st.sampled_from([np.dtype(np.uint8), np.dtype(np.uint16)])
PIXELS = st.tuples(DTYPES, st.integers(1, 9), st.integers(1, 9), CHANNELS).flatmap(
    lambda kind: hnp.arrays(kind[0], kind[1:])
)


def decode(png: bytes) -> np.ndarray:
    """Decode (H, W) or (H, W, C) samples in RGB order."""
    samples = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples.ndim == 2:
        return samples
    return samples[:, :, [2, 1, 0, 3][: samples.shape[2]]]


@given(PIXELS, st.sampled_from(PngEffort))
def test_every_pixel_is_preserved_for_any_size_channels_and_depth(pixels: np.ndarray, effort: PngEffort) -> None:
    decoded = decode(write_png(cv2.split(pixels), effort=effort))
    assert decoded.dtype == pixels.dtype
    channels = pixels.shape[2]
    if channels == 1:
        np.testing.assert_array_equal(decoded, pixels[:, :, 0])
    elif channels == 2:  # OpenCV spreads grey with alpha over four channels
        np.testing.assert_array_equal(decoded[:, :, [0, 3]], pixels)
    else:
        np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_the_file_states_its_colour_type(channels: int, mode: str) -> None:
    pixels = np.arange(5 * 4 * channels, dtype=np.uint8).reshape(5, 4, channels)
    image = PIL.Image.open(io.BytesIO(write_png(cv2.split(pixels))))
    assert (image.mode, image.size) == (mode, (4, 5))
    np.testing.assert_array_equal(np.asarray(image).reshape(5, 4, channels), pixels)


def test_a_colour_profile_is_embedded() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    png = write_png([np.zeros((2, 2), np.uint8)] * 3, Metadata(icc_profile=profile))
    assert PIL.Image.open(io.BytesIO(png)).info["icc_profile"] == profile


def test_pixels_that_are_a_view_are_written_in_their_own_order() -> None:
    pixels = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5).transpose(1, 2, 0)
    np.testing.assert_array_equal(decode(write_png(cv2.split(pixels))), pixels)


def test_the_small_effort_gives_the_same_pixels_in_fewer_bytes_over_many_blocks_of_rows() -> None:
    ramp = np.add.outer(np.arange(700), np.arange(900)) // 7
    noise = np.random.default_rng(0).integers(0, 4, (700, 900, 3))
    pixels = (ramp[:, :, None] + noise).astype(np.uint8)
    fast, small = (write_png(cv2.split(pixels), effort=effort) for effort in (PngEffort.FAST, PngEffort.SMALL))
    np.testing.assert_array_equal(decode(small), pixels)
    assert len(small) < 0.95 * len(fast)


def test_exif_xmp_and_colour_chunks_are_embedded() -> None:
    exif = PIL.Image.Exif()
    exif[0x010F] = "Maker"
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    gamma = (100_000).to_bytes(4, "big")
    png = write_png([np.zeros((2, 2), np.uint8)] * 3, Metadata(None, block, b"<x:xmpmeta/>", ((b"gAMA", gamma),)))
    image = PIL.Image.open(io.BytesIO(png))
    image.load()
    assert image.getexif()[0x010F] == "Maker"
    assert image.info["xmp"] == b"<x:xmpmeta/>"
    assert image.info["gamma"] == 1
