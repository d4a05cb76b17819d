"""Tests of the TIFF writer, against two independent decoders."""

import io

import cv2
import numpy as np
import PIL.Image
import pytest

from server.formats.tiff.writer import write_tiff
from server.imaging.metadata import Metadata

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (9, 7), (700, 900)])
def test_opencv_reads_every_sample_back(channels: int, dtype: type, size: tuple[int, int]) -> None:
    samples = RNG.integers(0, np.iinfo(dtype).max, (*size, channels)).astype(dtype)
    decoded = cv2.imdecode(np.frombuffer(write_tiff(cv2.split(samples), Metadata()), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded.reshape(samples.shape), samples[:, :, ::-1])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_pillow_reads_the_kind_of_pixels_and_their_values(channels: int, mode: str) -> None:
    samples = RNG.integers(0, 256, (40, 30, channels), dtype=np.uint8)
    image = PIL.Image.open(io.BytesIO(write_tiff(cv2.split(samples), Metadata())))
    assert (image.mode, image.size, image.n_frames) == (mode, (30, 40), 1)
    np.testing.assert_array_equal(np.asarray(image).reshape(samples.shape), samples)


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_either_byte_order_leaves_the_pixels_right(order: str) -> None:
    exif = PIL.Image.Exif()
    exif.endian = order
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8769)[0x829A] = 0.02
    exif.get_ifd(0x8825)[1] = "N"
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    assert block.startswith(b"II" if order == "<" else b"MM")
    samples = RNG.integers(0, 65_536, (5, 4, 3)).astype(np.uint16)
    data = write_tiff(cv2.split(samples), Metadata(b"profile", block, b"<xmp/>"))
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, samples[:, :, ::-1])
    image = PIL.Image.open(io.BytesIO(data))
    found = image.getexif()
    assert (found[0x010F], found.get_ifd(0x8769)[0x829A], found.get_ifd(0x8825)[1]) == ("Camera", 0.02, "N")
    assert (image.info["icc_profile"], image.info["xmp"]) == (b"profile", b"<xmp/>")


@pytest.mark.parametrize("broken", [b"noise", b"II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\xff\xff\0\0\0\0\0\0"])
def test_malformed_exif_is_left_out_and_the_image_is_written(broken: bytes) -> None:
    samples = RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    image = PIL.Image.open(io.BytesIO(write_tiff(cv2.split(samples), Metadata(exif=broken))))
    np.testing.assert_array_equal(np.asarray(image), samples)
    assert 0x8769 not in image.getexif()
