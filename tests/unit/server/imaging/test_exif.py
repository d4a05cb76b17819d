"""Tests of EXIF, against Pillow."""

import io
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
def test_the_orientation_is_read_and_reset_and_nothing_else_moves(orientation: int) -> None:
    before = block(orientation)
    after = exif.upright(before)
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


def test_the_thumbnail_goes_with_its_bytes() -> None:
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
def test_what_is_broken_has_no_orientation_and_is_not_passed_on(data: bytes | None) -> None:
    assert exif.orientation(data) == 1
    assert exif.upright(data) is None


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_counts_as_upright(value: int) -> None:
    assert exif.orientation(block(value)) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'<rdf tiff:Orientation="6" x="6">', b'<rdf tiff:Orientation="1" x="6">'),
        (b"<tiff:Orientation>8</tiff:Orientation>", b"<tiff:Orientation>1</tiff:Orientation>"),
        (b"<no such thing 6>", b"<no such thing 6>"),
    ],
)
def test_the_orientation_in_xmp_is_reset_too(before: bytes, after: bytes) -> None:
    assert exif.upright_xmp(before) == after


def test_the_tags_of_a_tiff_file_become_a_block_without_its_layout() -> None:
    file = io.BytesIO()
    PIL.Image.new("L", (4, 4)).save(file, "TIFF", exif=exif.PREFIX + block())
    data = file.getvalue()
    found = exif.from_tiff(data, tiff_directory.read_first(data))
    assert found is not None
    read = parsed(found)
    assert (read[MAKE], read.get_ifd(EXIF_IFD)[WIDE], read.get_ifd(GPS_IFD)[1]) == ("Camera", 40, "N")
    assert 256 not in read


@given(st.binary(max_size=200))
def test_any_bytes_become_a_sound_block_or_none(data: bytes) -> None:
    for start in (b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        after = exif.upright(start + data)
        if after is not None:
            with suppress(BrokenDirectoryError):
                exif.to_tiff(after)
            assert exif.orientation(after) == 1
