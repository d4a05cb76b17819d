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
def test_a_written_directory_is_read_back(order: str) -> None:
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


def test_a_tag_that_is_absent_or_not_an_integer_has_no_value() -> None:
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
        one("<", Entry(MAKE, 2, 100, bytes(100)))[:-60],
        b"II*\0\x08\0\0\0\xff\xff" + bytes(65_535 * 12),
    ],
    ids=["nothing", "no offset", "no order", "outside", "empty", "cut", "its one value outside", "no types"],
)
def test_bytes_without_a_valid_entry_are_not_a_directory(data: bytes) -> None:
    with pytest.raises(BrokenDirectoryError):
        tiff_directory.read_first(data)


def unsound(tag: int) -> dict[str, bytes]:
    """Return entries of 12 bytes that are invalid."""
    return {
        "outside": struct.pack("<HHII", tag, 2, 40, 99_999),
        "endless": struct.pack("<HHII", tag, 7, 2**32 - 1, 8),
        "of no type": struct.pack("<HHII", tag, 0, 1, 0),
        "of an unknown type": struct.pack("<HHII", tag, 99, 1, 0),
    }


@pytest.mark.parametrize("kind", unsound(0))
@pytest.mark.parametrize("place", range(3))
def test_an_invalid_entry_affects_no_other_entry(kind: str, place: int) -> None:
    records = [struct.pack("<HHII", WIDTH, LONG, 1, 640), struct.pack("<HHI4s", MAKE, 2, 4, b"Cam\0")]
    records.insert(place, unsound(305)[kind])
    found = tiff_directory.read_first(b"II*\0\x08\0\0\0\x03\0" + b"".join(records) + bytes(4))
    assert (found.integer(WIDTH, 0), found.entries[MAKE].raw) == (640, b"Cam\0")
    assert found.left_out == {305}


def test_the_first_valid_entry_of_a_duplicate_tag_is_used_and_reported() -> None:
    found = tiff_directory.read_first(one("<", *(integer_entry("<", WIDTH, SHORT, value) for value in (1, 2))))
    assert (found.integer(WIDTH, 0), found.left_out) == (1, {WIDTH})
    records = unsound(WIDTH)["outside"] + struct.pack("<HHII", WIDTH, LONG, 1, 5)
    assert tiff_directory.read_first(b"II*\0\x08\0\0\0\x02\0" + records + bytes(4)).integer(WIDTH, 0) == 5


def test_the_start_of_a_truncated_or_too_long_directory_is_read_and_reported() -> None:
    whole = one("<", *(integer_entry("<", tag, SHORT, tag) for tag in range(1, 4)))
    cut = tiff_directory.read_first(whole[: 10 + 2 * 12])
    assert (sorted(cut.entries), cut.is_whole, cut.next_offset) == ([1, 2], False, 0)
    long = tiff_directory.read_first(one("<", *(Entry(tag, 7, 4, b"\0\0\0\0") for tag in range(1025))))
    assert (len(long.entries), long.is_whole) == (1024, False)


def test_overlapping_values_have_no_more_bytes_than_the_data() -> None:
    entries = b"".join(struct.pack("<HHII", tag, 7, 60, 8) for tag in range(1, 4))
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", 3) + entries + bytes(60)
    found = tiff_directory.read_first(data)
    assert sum(len(entry.raw) for entry in found.entries.values()) <= len(data)
    assert found.left_out


def test_strict_reading_accepts_no_invalid_entry() -> None:
    twice = one("<", *(integer_entry("<", WIDTH, SHORT, value) for value in (1, 2)))
    for data in (twice, b"II*\0\x08\0\0\0\x02\0" + struct.pack("<HHII", WIDTH, LONG, 1, 5)):
        with pytest.raises(BrokenDirectoryError):
            tiff_directory.read_first_strictly(data)
    assert tiff_directory.read_first_strictly(one("<", integer_entry("<", WIDTH, SHORT, 1))).integer(WIDTH, 0) == 1


@given(st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]), st.binary(max_size=300))
def test_any_bytes_are_a_directory_or_an_error(header: bytes, rest: bytes) -> None:
    with suppress(BrokenDirectoryError):
        assert tiff_directory.read_first(header + rest).entries
