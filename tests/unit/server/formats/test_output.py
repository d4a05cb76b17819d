"""Tests of the output formats."""

import pickle

import pytest

from server import formats
from server.formats.output import OutputFormat


@pytest.mark.parametrize("name", formats.NAMES)
def test_every_format_that_is_read_is_answered_as_itself_or_without_loss(name: str) -> None:
    assert OutputFormat.same_as(name) == ("png" if name in ("BMP", "HEIC") else name.lower())


def test_media_types_and_suffixes_are_the_registered_and_usual_ones() -> None:
    usual = {
        "png": ("image/png", ".png"),
        "jpeg": ("image/jpeg", ".jpg"),
        "webp": ("image/webp", ".webp"),
        "avif": ("image/avif", ".avif"),
        "tiff": ("image/tiff", ".tif"),
    }
    assert {output.value: (output.media_type, output.suffix) for output in OutputFormat}.items() >= usual.items()
    assert [output.name for output in OutputFormat] == [output.value.upper() for output in OutputFormat]


@pytest.mark.parametrize("output", OutputFormat)
def test_a_member_survives_pickling_and_is_found_by_its_name(output: OutputFormat) -> None:
    assert pickle.loads(pickle.dumps(output)) is output  # noqa: S301 - our own bytes
    assert OutputFormat(str(output)) is output
