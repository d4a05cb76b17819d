"""Tests of EXIF, against Pillow."""

import io
import struct
from contextlib import suppress

import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.imaging import exif, tiff_directory
from server.imaging.tiff_directory import BrokenDirectoryError

MAKE, ORIENTATION, EXIF_IFD, GPS_IFD, MAKER_NOTE, WIDE, HIGH = 0x010F, 0x0112, 0x8769, 0x8825, 0x927C, 0xA002, 0xA003


def block(orientation: int = 6) -> bytes:
    tags = PIL.Image.Exif()
    tags[MAKE] = "Camera"
    tags[ORIENTATION] = orientation
    tags.get_ifd(EXIF_IFD).update({WIDE: 40, HIGH: 24, MAKER_NOTE: b"secret offsets"})
    tags.get_ifd(GPS_IFD)[1] = "N"
    return tags.tobytes().removeprefix(exif.PREFIX)


def parsed(data: bytes) -> PIL.Image.Exif:
    tags = PIL.Image.Exif()
    tags.load(data)
    return tags


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_read_and_reset_and_nothing_else_changes(orientation: int) -> None:
    before = block(orientation)
    after = exif.upright(before, orientation)
    assert exif.orientation(before) == orientation
    assert after is not None
    assert exif.orientation(after) == 1
    assert len(after) == len(before)
    tags = parsed(after)
    assert (tags[MAKE], tags.get_ifd(EXIF_IFD)[MAKER_NOTE], tags.get_ifd(GPS_IFD)[1]) == (
        "Camera",
        b"secret offsets",
        "N",
    )
    lies = orientation >= 5
    assert (tags.get_ifd(EXIF_IFD)[WIDE], tags.get_ifd(EXIF_IFD)[HIGH]) == ((24, 40) if lies else (40, 24))


def test_the_thumbnail_is_removed_with_its_bytes() -> None:
    first = tiff_directory.write("<", [tiff_directory.integer_entry("<", ORIENTATION, 3, 3)], 8)
    second_at = 8 + len(first)
    entries = [
        tiff_directory.integer_entry("<", tag, 4, value) for tag, value in ((0x0201, second_at + 30), (0x0202, 9))
    ]
    second = tiff_directory.write("<", entries, second_at)
    assert len(second) == 30
    data = b"II*\0\x08\0\0\0" + first[:-4] + second_at.to_bytes(4, "little") + second + b"thumbnail"
    after = exif.upright(data)
    assert after is not None
    assert b"thumbnail" not in after
    assert tiff_directory.read_first(after).next_offset == 0
    assert exif.orientation(after) == 1


@pytest.mark.parametrize("data", [None, b"", b"garbage", b"II*\0\x08\0\0\0\x05\0"])
def test_a_malformed_block_has_no_orientation_and_is_removed(data: bytes | None) -> None:
    assert exif.orientation(data) == 1
    assert exif.upright(data) is None


def record(tag: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")


def by_hand(*records: bytes) -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(records)) + b"".join(records) + bytes(4)


CAMERA = record(MAKE, 2, 4, b"Cam\0")
SIX = record(ORIENTATION, 3, 1, b"\6")
OUTSIDE = record(0x0131, 2, 40, struct.pack("<I", 99_999))


@pytest.mark.parametrize(
    "records",
    [
        (CAMERA, SIX, OUTSIDE),
        (OUTSIDE, CAMERA, SIX),
        (SIX, SIX, CAMERA),
        (SIX, record(ORIENTATION, 3, 1, b"\3"), CAMERA),
        (record(ORIENTATION, 3, 100, struct.pack("<I", 99_999)), SIX, CAMERA),
        (CAMERA, CAMERA, SIX),
        (record(EXIF_IFD, 4, 1, struct.pack("<I", 99_999)), CAMERA, SIX),
    ],
    ids=["bad last", "bad first", "twice", "twice unlike", "bad and good", "another twice", "pointer outside"],
)
def test_an_invalid_or_duplicate_entry_affects_no_other_entry(records: tuple[bytes, ...]) -> None:
    before = by_hand(*records)
    assert exif.orientation(before) == 6
    after = exif.upright(before, 6)
    assert after is not None
    assert len(after) == len(before)
    found = tiff_directory.read_first_strictly(after)  # no invalid entry is left for other readers
    assert sorted(found.entries) == [MAKE, ORIENTATION]
    assert (found.entries[MAKE].raw, found.integer(ORIENTATION, 0)) == (b"Cam\0", 1)


@pytest.mark.parametrize(
    ("kind", "count", "value"),
    [
        (1, 1, b"\6"),
        (2, 2, b"6\0"),
        (3, 2, b"\6\0\6\0"),
        (3, 3, struct.pack("<I", 26)),
        (4, 1, b"\6"),
        (5, 1, struct.pack("<I", 26)),
        (6, 1, b"\6"),
        (7, 1, b"\6"),
        (8, 1, b"\6"),
        (9, 1, b"\6"),
        (11, 1, struct.pack("<f", 6)),
        (13, 1, b"\6"),
    ],
)
def test_an_orientation_of_an_unusual_type_or_count_is_applied_and_reset(kind: int, count: int, value: bytes) -> None:
    behind = struct.pack("<II", 6, 1) if kind == 5 else struct.pack("<4H", 6, 6, 6, 6)
    before = by_hand(record(ORIENTATION, kind, count, value)) + behind
    assert exif.orientation(before) == 6
    after = exif.upright(before, 6)
    assert after is not None
    entry = tiff_directory.read_first_strictly(after).entries[ORIENTATION]
    assert (entry.kind, entry.count, entry.raw) == (3, 1, b"\1\0")
    assert parsed(after)[ORIENTATION] == 1


@pytest.mark.parametrize("kind", [3, 5, 99])
def test_an_orientation_without_a_value_is_ignored_and_removed(kind: int) -> None:
    before = by_hand(CAMERA, record(ORIENTATION, kind, 0, b"\6"))
    assert exif.orientation(before) == 1
    after = exif.upright(before)
    assert after is not None
    assert parsed(after).get(ORIENTATION, 1) == 1


def test_an_invalid_entry_of_a_subdirectory_is_removed_alone() -> None:
    below = struct.pack("<H", 2) + record(MAKER_NOTE, 7, 900, struct.pack("<I", 99_999)) + record(WIDE, 3, 1, b"\x28")
    before = by_hand(record(EXIF_IFD, 4, 1, struct.pack("<I", 26)), SIX)
    before = before[:8] + before[8:].replace(struct.pack("<I", 26), struct.pack("<I", len(before))) + below + bytes(4)
    after = exif.upright(before)
    assert after is not None
    assert dict(parsed(after).get_ifd(EXIF_IFD)) == {WIDE: 40}


def test_the_sizes_that_phones_write_beside_the_orientation_are_swapped_too() -> None:
    sizes = [record(tag, 4, 1, struct.pack("<I", value)) for tag, value in ((0x0100, 60), (0x0101, 40))]
    for turned_by, expected in ((6, (40, 60)), (3, (60, 40))):
        after = exif.upright(by_hand(*sizes, SIX), turned_by)
        assert after is not None
        assert (parsed(after)[0x0100], parsed(after)[0x0101]) == expected


def test_xmp_decides_if_exif_states_no_valid_orientation() -> None:
    xmp = b'<rdf tiff:Orientation="8"/>'
    assert exif.orientation(None, xmp) == exif.orientation(block(0), xmp) == 8
    assert exif.orientation(b"garbage", xmp) == 8
    assert exif.orientation(block(1), xmp) == 1
    assert exif.orientation(block(6), xmp) == 6


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_counts_as_upright(value: int) -> None:
    assert exif.orientation(block(value)) == 1


def test_the_tags_of_a_tiff_file_become_a_block_without_its_layout() -> None:
    file = io.BytesIO()
    PIL.Image.new("L", (4, 4)).save(file, "TIFF", exif=exif.PREFIX + block())
    data = file.getvalue()
    found = exif.from_tiff(data, tiff_directory.read_first(data), is_upright=True)
    assert found is not None
    read = parsed(found)
    assert (read[MAKE], read.get_ifd(EXIF_IFD)[WIDE], read.get_ifd(GPS_IFD)[1]) == ("Camera", 40, "N")
    assert 256 not in read


@given(st.binary(max_size=200))
def test_any_bytes_become_a_valid_block_or_none(data: bytes) -> None:
    for start in (b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        after = exif.upright(start + data)
        if after is not None:
            with suppress(BrokenDirectoryError):
                exif.to_tiff(after)
            assert exif.orientation(after) == 1
