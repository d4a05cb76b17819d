"""Tests of the iteration over boxes."""

import pytest
from heif_files import box

from server.formats.heif.boxes import Box, BrokenBoxError, Fields, boxes

FREE = box(b"free", b"abc")


def test_boxes_with_all_three_kinds_of_length_are_read() -> None:
    long = b"\0\0\0\1long" + (20).to_bytes(8, "big") + b"abcd"
    last = b"\0\0\0\0last" + bytes(9)
    data = FREE + long + last
    assert list(boxes(data, 0, len(data), 9)) == [
        Box(b"free", 0, 8, 11),
        Box(b"long", 11, 27, 31),
        Box(b"last", 31, 39, 48),
    ]


@pytest.mark.parametrize("size", [0x0C, 7, 1, 2**32 - 1])
def test_a_box_that_exceeds_its_container_is_an_error_or_ends_the_file(size: int) -> None:
    data = FREE + size.to_bytes(4, "big") + b"meta" + b"abc"
    with pytest.raises(BrokenBoxError):
        list(boxes(data, 0, len(data), 9))
    assert next(boxes(data, 0, len(data), 9, may_be_cut=True)).kind == b"free"


def test_too_many_boxes_are_an_error() -> None:
    assert len(list(boxes(FREE * 5, 0, 55, 5))) == 5
    with pytest.raises(BrokenBoxError, match="more than 4"):
        list(boxes(FREE * 5, 0, 55, 4))


def test_fields_end_with_their_box() -> None:
    fields = Fields(b"\1\2name\0rest", 0, 11)
    assert (fields.integer(2), fields.text(), fields.text(), fields.text()) == (0x0102, b"name", b"rest", b"")
    with pytest.raises(BrokenBoxError):
        fields.take(1)
