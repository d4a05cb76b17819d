"""Tests of the list of formats and of what is derived from it."""

import re

import pytest

from server import formats
from server.cli.restore.inputs import INPUT_SUFFIXES, OUTPUT_BY_SUFFIX
from server.errors import UnsupportedImage
from server.formats.base import Format
from server.formats.output import OutputFormat
from server.http.ops.schemas import ServiceLimits
from server.http.restore.openapi import IMAGES, REQUEST_BODY
from server.http.restore.options import RestoreQuery
from server.settings import Settings

FORMATS = formats.KNOWN
WRITTEN = [known for known in FORMATS if known.encoder is not None]


def test_names_suffixes_and_media_types_are_unique() -> None:
    suffixes = [suffix for known in FORMATS for suffix in known.suffixes]
    for values in ([known.key for known in FORMATS], suffixes, [known.media_type for known in FORMATS]):
        assert len(values) == len(set(values))
    assert all(re.fullmatch(r"\.[a-z]+", suffix) for suffix in suffixes)


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_no_format_takes_the_files_of_another_or_noise(known: Format) -> None:
    starts = {
        "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1",
        "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\x0d",
        "WebP": b"RIFF\x20\0\0\0WEBP",
        "AVIF": b"\0\0\0\x10ftypavif\0\0\0\0",
        "TIFF": b"MM\0*\0\0\0\x08\0\0\0\0",
        "BMP": b"BM\x36\0\0\0\0\0\0\0\x36\0",
        "HEIC": b"\0\0\0\x10ftypheic\0\0\0\0",
    }
    assert [name for name, start in starts.items() if known.matches(start)] == [known.name]
    assert not known.matches(b"no picture!!")


def test_the_query_its_schema_the_command_line_and_the_limits_offer_what_is_written() -> None:
    keys = [known.key for known in WRITTEN]
    assert sorted(output.value for output in OutputFormat) == sorted(keys)
    schema = RestoreQuery.model_json_schema()["properties"]["format"]
    assert schema["enum"] == [*(output.value for output in OutputFormat), "same"]
    limits = ServiceLimits.of(Settings(), None)
    assert limits.output_formats == schema["enum"]
    assert limits.output_sides == {"jpeg": 65_500, "webp": 16_383, "avif": 32_768}
    assert {suffix: known.key for known in WRITTEN for suffix in known.suffixes} == OUTPUT_BY_SUFFIX
    assert {media_type for media_type in IMAGES if media_type.startswith("image/")} == {
        known.media_type for known in WRITTEN
    }


def test_what_is_read_is_named_by_the_command_line_and_the_documents() -> None:
    assert {suffix for known in FORMATS for suffix in known.suffixes} == INPUT_SUFFIXES
    assert list(formats.NAMES) == ServiceLimits.of(Settings(), None).input_formats
    described = REQUEST_BODY["requestBody"]["description"]
    assert all(name in described for name in formats.NAMES)
    with pytest.raises(UnsupportedImage) as caught:
        formats.format_of(b"no picture!!")
    assert all(name in str(caught.value) for name in formats.NAMES)


def test_an_unknown_format_is_refused_with_those_that_there_are() -> None:
    offered = formats.listing([repr(name) for name in (*formats.WRITTEN, "same")], "or")
    with pytest.raises(ValueError, match=offered):
        RestoreQuery.model_validate({"format": "jxl"})


def test_phrases_are_joined() -> None:
    assert formats.listing(["A"], "or") == "A"
    assert formats.listing(["A", "B"], "or") == "A or B"
    assert formats.listing(["A", "B", "C"], "and") == "A, B and C"
