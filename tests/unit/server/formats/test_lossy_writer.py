"""Tests of the lossy writer, read back by Pillow."""

import io

import cv2
import numpy as np
import PIL.Image
import pytest
from PIL import JpegImagePlugin

from server.errors import InvalidRequest
from server.formats.lossy_writer import write_lossy
from server.formats.output import OutputFormat
from server.imaging.metadata import Metadata

NOISE = np.random.default_rng(0).integers(0, 256, (24, 40, 4), dtype=np.uint8)
LOSSY = [OutputFormat.JPEG, OutputFormat.WEBP, OutputFormat.AVIF]


def opened(data: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(data))


@pytest.mark.parametrize(("quality", "sampling"), [(100, 0), (90, 0), (89, 2), (1, 2)])
def test_colour_keeps_its_full_resolution_from_quality_90_on(quality: int, sampling: int) -> None:
    image = opened(write_lossy(OutputFormat.JPEG, NOISE[:, :, :3].copy(), quality, Metadata()))
    assert JpegImagePlugin.get_sampling(image) == sampling


def test_a_baseline_jpeg_is_written() -> None:
    assert "progressive" not in opened(write_lossy(OutputFormat.JPEG, NOISE[:, :, :3].copy(), 90, Metadata())).info


@pytest.mark.parametrize("output", [OutputFormat.WEBP, OutputFormat.AVIF])
@pytest.mark.parametrize("quality", [1, 50, 100])
def test_alpha_loses_nothing(output: OutputFormat, quality: int) -> None:
    image = opened(write_lossy(output, NOISE, quality, Metadata()))
    np.testing.assert_array_equal(np.asarray(image.getchannel("A")), NOISE[:, :, 3])


@pytest.mark.parametrize(("output", "mode"), [(OutputFormat.JPEG, "L"), (OutputFormat.AVIF, "L")])
def test_grey_is_written_as_grey(output: OutputFormat, mode: str) -> None:
    assert opened(write_lossy(output, NOISE[:, :, :1].copy(), 90, Metadata())).mode == mode


@pytest.mark.parametrize(("output", "longest"), [(OutputFormat.JPEG, 65_500), (OutputFormat.WEBP, 16_383)])
def test_the_longest_side_is_written_and_one_more_is_the_requests_fault(output: OutputFormat, longest: int) -> None:
    assert opened(write_lossy(output, np.zeros((1, longest, 3), np.uint8), 50, Metadata())).size == (longest, 1)
    with pytest.raises(InvalidRequest, match=str(longest)):
        write_lossy(output, np.zeros((longest + 1, 1, 3), np.uint8), 50, Metadata())


@pytest.mark.parametrize("output", LOSSY)
@pytest.mark.parametrize("block", [b"noise", b"II*\0\x08\0\0\0\x01\0", b"MM\0*" + bytes(100), bytes(70_000)])
def test_notes_that_are_broken_or_too_long_cost_at_most_themselves(output: OutputFormat, block: bytes) -> None:
    data = write_lossy(output, NOISE[:, :, :3].copy(), 90, Metadata(exif=block, xmp=bytes(70_000)))
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).shape == (24, 40, 3)
