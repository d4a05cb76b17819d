"""Tests of writing AVIF of more than 8 bits."""

import io

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms
from round_trips import LIMITS

from server.errors import InvalidRequest
from server.formats import codec
from server.formats.header import probe
from server.formats.output import OutputFormat
from server.imaging.metadata import Metadata

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ROWS, COLUMNS = np.mgrid[0:48, 0:64]
PLANES = tuple(
    (values * 65_535).round().astype(np.uint16) for values in (COLUMNS / 63, ROWS / 47, (ROWS + COLUMNS) / 110)
)


def image(planes: tuple[np.ndarray, ...], **more: object) -> codec.Image:
    return codec.Image(planes, None, **more)


@pytest.mark.parametrize("count", [1, 3])
def test_ten_bits_are_preserved_at_the_highest_quality(count: int) -> None:
    source = image(PLANES[:count])
    data = codec.encode(source, source.planes, OutputFormat.AVIF, 100)
    header = probe(data, LIMITS)
    assert (header.depth, header.is_grey) == (10, count == 1)
    for ours, theirs in zip(codec.decode(data, header).planes, source.planes, strict=True):
        assert np.abs(ours / 65_535 - theirs / 65_535).max() <= 0.51 / 1023


def test_a_second_round_trip_of_deep_samples_changes_nothing() -> None:
    source = image(PLANES)
    first = codec.encode(source, source.planes, OutputFormat.AVIF, 100)
    again = codec.decode(first, probe(first, LIMITS))
    second = codec.encode(again, again.planes, OutputFormat.AVIF, 100)
    for ours, theirs in zip(codec.decode(second, probe(second, LIMITS)).planes, again.planes, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_profile_exif_xmp_and_code_points_are_written() -> None:
    tags = PIL.Image.Exif()
    tags[0x010F], tags[0x0112] = "Maker", 1
    notes = Metadata(PROFILE, tags.tobytes()[6:], b"<x:xmpmeta/>")
    source = image(PLANES, metadata=notes)
    data = codec.encode(source, source.planes, OutputFormat.AVIF, 90)
    found = probe(data, LIMITS).metadata
    assert (found.icc_profile, found.xmp) == (PROFILE, b"<x:xmpmeta/>")
    assert PIL.Image.open(io.BytesIO(data)).getexif()[0x010F] == "Maker"
    points = (b"cICP", b"\x09\x10\0\1")
    source = image(PLANES, metadata=Metadata(colour_chunks=(points,)))
    data = codec.encode(source, source.planes, OutputFormat.AVIF, 90)
    assert probe(data, LIMITS).metadata.colour_chunks == (points,)


def test_deep_colour_with_alpha_is_written_in_8_bits_with_lossless_alpha() -> None:
    alpha = np.random.default_rng(0).integers(0, 2**16, PLANES[0].shape, dtype=np.uint16)
    source = codec.Image(PLANES, alpha)
    data = codec.encode(source, source.planes, OutputFormat.AVIF, 90)
    found = codec.decode(data, probe(data, LIMITS))
    assert found.dtype == np.uint8
    assert found.alpha is not None
    np.testing.assert_array_equal(found.alpha, np.rint(alpha / 257).astype(np.uint8))
    assert not codec.keeps_depth(OutputFormat.AVIF, has_alpha=True)


def test_the_formats_that_keep_depth_are_named() -> None:
    kept = {output for output in OutputFormat if codec.keeps_depth(output, has_alpha=False)}
    assert kept == {OutputFormat.PNG, OutputFormat.TIFF, OutputFormat.AVIF}


def test_a_side_that_is_too_long_is_refused_with_the_limit() -> None:
    long = image((np.zeros((1, 32_769), np.uint16),))
    with pytest.raises(InvalidRequest, match="AVIF holds at most 32768 pixels a side"):
        codec.encode(long, long.planes, OutputFormat.AVIF, 90)
