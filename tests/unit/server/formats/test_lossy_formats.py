"""Tests of the lossy encoders, read back by Pillow."""

import io

import cv2
import numpy as np
import PIL.Image
import pytest
from PIL import JpegImagePlugin

from server.errors import InvalidRequest
from server.formats import codec
from server.formats.output import OutputFormat
from server.imaging.metadata import Metadata

NOISE = np.random.default_rng(0).integers(0, 256, (24, 40, 4), dtype=np.uint8)
LOSSY = [output for output in OutputFormat if output.encoder.is_lossy]


def written(output: OutputFormat, pixels: np.ndarray, quality: int, metadata: Metadata | None = None) -> bytes:
    """Encode (H, W, C) pixels: C = 1 grey, 3 RGB or 4 RGBA."""
    planes = [np.ascontiguousarray(plane) for plane in np.moveaxis(pixels, 2, 0)]
    alpha = planes.pop() if len(planes) == 4 else None
    image = codec.Image(tuple(planes), alpha, metadata or Metadata())
    return codec.encode(image, image.planes, output, quality)


def opened(data: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(data))


def test_the_lossy_formats_are_these() -> None:
    assert LOSSY == [OutputFormat.JPEG, OutputFormat.WEBP, OutputFormat.AVIF]


@pytest.mark.parametrize(("quality", "sampling"), [(100, 0), (90, 0), (89, 2), (1, 2)])
def test_colour_keeps_its_full_resolution_from_quality_90_on(quality: int, sampling: int) -> None:
    image = opened(written(OutputFormat.JPEG, NOISE[:, :, :3], quality))
    assert JpegImagePlugin.get_sampling(image) == sampling


def test_a_baseline_jpeg_is_written() -> None:
    assert "progressive" not in opened(written(OutputFormat.JPEG, NOISE[:, :, :3], 90)).info


@pytest.mark.parametrize("output", [OutputFormat.WEBP, OutputFormat.AVIF])
@pytest.mark.parametrize("quality", [1, 50, 100])
def test_alpha_loses_nothing(output: OutputFormat, quality: int) -> None:
    image = opened(written(output, NOISE, quality))
    np.testing.assert_array_equal(np.asarray(image.getchannel("A")), NOISE[:, :, 3])


@pytest.mark.parametrize(("output", "mode"), [(OutputFormat.JPEG, "L"), (OutputFormat.AVIF, "L")])
def test_grey_is_written_as_grey(output: OutputFormat, mode: str) -> None:
    assert opened(written(output, NOISE[:, :, :1], 90)).mode == mode


@pytest.mark.parametrize(("output", "longest"), [(OutputFormat.JPEG, 65_500), (OutputFormat.WEBP, 16_383)])
def test_the_longest_side_is_written_and_a_longer_one_is_an_invalid_request(output: OutputFormat, longest: int) -> None:
    assert opened(written(output, np.zeros((1, longest, 3), np.uint8), 50)).size == (longest, 1)
    with pytest.raises(InvalidRequest, match=f"(?i){output.value} holds at most {longest} pixels a side"):
        written(output, np.zeros((longest + 1, 1, 3), np.uint8), 50)


@pytest.mark.parametrize("output", LOSSY)
@pytest.mark.parametrize("block", [b"noise", b"II*\0\x08\0\0\0\x01\0", b"MM\0*" + bytes(100), bytes(70_000)])
def test_metadata_that_is_broken_or_too_long_costs_at_most_itself(output: OutputFormat, block: bytes) -> None:
    data = written(output, NOISE[:, :, :3], 90, Metadata(exif=block, xmp=bytes(70_000)))
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).shape == (24, 40, 3)


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("quality", [1, 75, 89, 90, 100])
def test_a_jpeg_has_the_pixels_that_pillow_writes(planes: int, quality: int) -> None:
    pixels = NOISE[:, :, :planes]
    expected = io.BytesIO()
    PIL.Image.fromarray(pixels if planes == 3 else pixels[:, :, 0]).save(
        expected, "JPEG", quality=quality, subsampling="4:4:4" if quality >= 90 else "4:2:0"
    )
    data = written(OutputFormat.JPEG, pixels, quality)
    np.testing.assert_array_equal(np.asarray(opened(data)), np.asarray(opened(expected.getvalue())))


def test_a_long_profile_is_written_in_pieces_and_comes_back_whole() -> None:
    profile = np.random.default_rng(1).bytes(150_000)
    image = opened(written(OutputFormat.JPEG, NOISE[:, :, :3], 90, Metadata(icc_profile=profile, xmp=b"<xmp/>")))
    assert image.info["icc_profile"] == profile
    assert image.info["xmp"] == b"<xmp/>"
