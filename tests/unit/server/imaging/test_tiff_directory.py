"""Tests of the TIFF directory."""

import io
import struct
from contextlib import suppress

import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.imaging import tiff_directory
from server.imaging.tiff_directory import LONG, SHORT, BrokenDirectoryError, Entry, integer_entry

WIDTH, STRIPS, MAKE = 256, 273, 271
AT = 8


def one(order: str, *entries: Entry) -> bytes:
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}I", AT) + tiff_directory.write(order, entries, AT)


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_is_written_is_read_back(order: str) -> None:
    make = Entry(MAKE, 2, 7, b"Camera\0")
    strips = integer_entry(order, STRIPS, LONG, 1, 2, 70_000)
    found = tiff_directory.read_first(one(order, strips, make, integer_entry(order, WIDTH, SHORT, 640)))
    assert (found.order, found.next_offset, list(found.entries)) == (order, 0, [WIDTH, MAKE, STRIPS])
    assert found.integer(WIDTH, 0) == 640
    assert found.integers(STRIPS) == (1, 2, 70_000)
    assert found.entries[MAKE].raw == b"Camera\0"


def test_a_file_of_another_writer_is_read() -> None:
    file = io.BytesIO()
    PIL.Image.new("RGB", (30, 20)).save(file, "TIFF", software="somebody's")
    found = tiff_directory.read_first(file.getvalue())
    assert (found.integer(256, 0), found.integer(257, 0), found.integers(258)) == (30, 20, (8, 8, 8))
    assert found.entries[305].raw == b"somebody's\0"


def test_a_tag_that_is_absent_or_no_integer_has_no_value() -> None:
    found = tiff_directory.read_first(one("<", Entry(MAKE, 2, 2, b"C\0")))
    assert (found.integer(WIDTH, 7), found.integers(MAKE)) == (7, ())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"II*\0",
        b"IM*\0\x08\0\0\0",
        b"II*\0\xff\xff\xff\xff" + bytes(20),
        b"II*\0\x08\0\0\0\0\0",
        b"II*\0\x08\0\0\0\x01\0" + bytes(11),
        one("<", *(integer_entry("<", WIDTH, SHORT, value) for value in (1, 2))),
        one("<", Entry(MAKE, 2, 100, bytes(100)))[:-60],
        one("<", *(Entry(tag, 7, 4, b"\0\0\0\0") for tag in range(1025))),
    ],
    ids=["nothing", "no offset", "no order", "outside", "empty", "cut", "twice", "value outside", "too many"],
)
def test_what_is_no_sound_directory_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenDirectoryError):
        tiff_directory.read_first(data)


def test_values_that_overlap_to_more_than_the_data_are_refused() -> None:
    entries = b"".join(struct.pack("<HHII", tag, 7, 60, 8) for tag in range(1, 4))
    with pytest.raises(BrokenDirectoryError):
        tiff_directory.read_first(b"II*\0\x08\0\0\0" + struct.pack("<H", 3) + entries + bytes(60))


@given(st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]), st.binary(max_size=300))
def test_any_bytes_are_a_directory_or_broken(header: bytes, rest: bytes) -> None:
    with suppress(BrokenDirectoryError):
        assert tiff_directory.read_first(header + rest).entries
