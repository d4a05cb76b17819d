"""Tests of the output formats."""

import pytest

from server.formats import FORMATS
from server.formats.output import OutputFormat


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_that_is_read_is_answered_as_itself_or_without_loss(name: str) -> None:
    assert OutputFormat.same_as(name) == ("png" if name in ("BMP", "HEIC") else name.lower())


def test_names_are_those_that_are_registered_and_usual() -> None:
    assert [output.media_type for output in OutputFormat] == [
        "image/png",
        "image/jpeg",
        "image/webp",
        "image/avif",
        "image/tiff",
    ]
    assert [output.suffix for output in OutputFormat] == [".png", ".jpg", ".webp", ".avif", ".tif"]
