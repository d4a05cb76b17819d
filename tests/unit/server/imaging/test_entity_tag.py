"""Tests of the entity tag."""

import re

import pytest

from server.imaging.entity_tag import entity_tag, is_listed

TAG = entity_tag(b"photo", {"format": "png", "quality": 90}, "model-a")


def test_a_tag_is_weak_quoted_and_the_same_each_time() -> None:
    assert re.fullmatch(r'W/"[0-9a-f]{32}"', TAG)
    assert entity_tag(b"photo", {"quality": 90, "format": "png"}, "model-a") == TAG


@pytest.mark.parametrize(
    ("data", "options", "model"),
    [
        (b"photos", {"format": "png", "quality": 90}, "model-a"),
        (b"photo", {"format": "png", "quality": 91}, "model-a"),
        (b"photo", {"format": "png", "quality": "90"}, "model-a"),
        (b"photo", {"format": "png"}, "model-a"),
        (b"photo", {"format": "png", "quality": 90}, "model-b"),
    ],
)
def test_every_input_that_matters_changes_the_tag(data: bytes, options: dict[str, object], model: str) -> None:
    assert entity_tag(data, options, model) != TAG


def test_options_cannot_run_into_the_bytes_that_follow() -> None:
    assert entity_tag(b'"b"]\0', {}, "a") != entity_tag(b"", {}, 'a", "b"]\0')


@pytest.mark.parametrize("header", [TAG, TAG.removeprefix("W/"), f'"other", {TAG}', f'"a,b",{TAG} , W/"z"', "*", " * "])
def test_a_header_that_names_the_tag_lists_it(header: str) -> None:
    assert is_listed(TAG, header)


@pytest.mark.parametrize("header", [None, "", '"other"', TAG[:-2] + '"', TAG.strip('W/"'), f'"{TAG}"', '"*"'])
def test_a_header_that_does_not_name_the_tag_does_not_list_it(header: str | None) -> None:
    assert not is_listed(TAG, header)
