"""Tests of the choice among a TIFF's directories."""

import struct

import pytest
from tiffs import Page, grey_page, tiff_of

from server.errors import InvalidImage, UndecodableImage, UnsupportedImage
from server.formats import tiff
from server.formats.header import probe
from server.settings import LimitSettings

LIMITS = LimitSettings()
REDUCED, PAGE, MASK = 1, 2, 4
SENSOR = 32_803
MOST = 10**6


def shown(data: bytes) -> tuple[int, int]:
    """Return the width and the shade of grey of the picture that is read."""
    header = probe(data, LIMITS)
    return header.width, int(tiff.decode(data, header).colour[0][0, 0])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "pages",
    [
        [grey_page(16, 7)],
        [grey_page(16, 7, 0), grey_page(8, 1, REDUCED), grey_page(4, 2, REDUCED)],
        [grey_page(16, 7, 0), grey_page(16, 1, MASK), grey_page(8, 2, REDUCED | MASK)],
        [grey_page(16, 7), grey_page(8, 1, t255=2)],
        [grey_page(16, 7, below=[grey_page(8, 1, REDUCED), grey_page(4, 1, REDUCED)])],
        [grey_page(8, 1, REDUCED), grey_page(16, 7, 0)],
        [grey_page(8, 1, REDUCED, below=[grey_page(16, 7, 0)])],
        [grey_page(16, 7, REDUCED)],
        [grey_page(16, 7, PAGE)],
    ],
    ids=["one", "pyramid", "masks", "old subfile", "pyramid below", "thumbnail first", "below", "alone", "page"],
)
def test_the_whole_picture_is_found_at_any_place_among_its_copies_and_masks(pages: list[Page], order: str) -> None:
    assert shown(tiff_of(*pages, order=order)) == (16, 7)


@pytest.mark.parametrize("second", [None, 0, PAGE])
def test_a_second_whole_picture_is_a_second_page(second: int | None) -> None:
    with pytest.raises(UnsupportedImage, match="more than one frame"):
        probe(tiff_of(grey_page(16, 7), grey_page(8, 1, REDUCED), grey_page(16, 8, second)), LIMITS)


def test_a_later_directory_that_cannot_be_read_is_not_a_page() -> None:
    data = bytearray(tiff_of(grey_page(16, 7)))
    at = struct.unpack_from("<I", data, 4)[0]
    end = at + 2 + 12 * struct.unpack_from("<H", data, at)[0]
    for following in (at, 2**31, 1, len(data)):
        struct.pack_into("<I", data, end, following)
        assert shown(bytes(data)) == (16, 7)


def test_an_endless_chain_of_directories_is_refused() -> None:
    with pytest.raises(UnsupportedImage, match="64"):
        probe(tiff_of(*[grey_page(16, 7), *[grey_page(4, 1, REDUCED)] * 70]), LIMITS)


@pytest.mark.parametrize(
    ("pages", "named"),
    [
        ([grey_page(16, 7, REDUCED, t50706=b"\1\4\0\0", below=[grey_page(64, 0, 0, t262=SENSOR)])], "camera raw (DNG)"),
        ([grey_page(16, 7, 0, t50706=b"\1\4\0\0")], "camera raw (DNG)"),
        ([grey_page(16, 7, REDUCED, below=[grey_page(64, 0, 0, t258=14, t259=34713, t262=SENSOR)])], "camera raw,"),
        ([grey_page(16, 7, REDUCED, t271=b"NIKON CORPORATION\0", below=[grey_page(64, 0, t262=SENSOR)])], "Nikon NEF"),
        ([grey_page(16, 7, REDUCED, t271=b"SONY\0", below=[grey_page(64, 0, 0, t259=32767)])], "Sony ARW"),
        ([grey_page(64, 0, 0, t271=b"PENTAX\0", t262=SENSOR, t259=65535)], "Pentax PEF"),
        ([grey_page(16, 7), grey_page(64, 0, 0, t262=34892)], "camera raw"),
    ],
)
def test_camera_raw_is_refused_by_name_instead_of_restoring_its_preview(pages: list[Page], named: str) -> None:
    with pytest.raises(UnsupportedImage) as error:
        probe(tiff_of(*pages), LIMITS)
    assert named in error.value.detail
    assert "develop it" in error.value.detail


@pytest.mark.parametrize(
    ("start", "named"),
    [
        (b"II*\0\x10\0\0\0CR\2\0", "Canon CR2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "Canon CR3"),
        (b"II\x1a\0\0\0HEAPCCDR", "Canon CRW"),
        (b"FUJIFILMCCD-RAW 0201", "Fujifilm RAF"),
        (b"IIRO\x08\0\0\0", "Olympus ORF"),
        (b"IIRS\x08\0\0\0", "Olympus ORF"),
        (b"IIU\0\x08\0\0\0", "Panasonic RW2"),
        (b"\0MRM\0\0\0\0", "Minolta MRW"),
        (b"FOVb\0\0\2\0", "Sigma X3F"),
    ],
)
def test_camera_raw_that_is_not_tiff_is_refused_by_name_too(start: bytes, named: str) -> None:
    with pytest.raises(UnsupportedImage) as error:
        probe(start + bytes(100), LIMITS)
    assert f"camera raw ({named})" in error.value.detail


def test_a_thumbnail_does_not_replace_a_picture_that_is_cut_off() -> None:
    data = tiff_of(grey_page(16, 7, REDUCED, t330=2**30))
    with pytest.raises(UndecodableImage, match="smaller copy"):
        probe(data, LIMITS)


@pytest.mark.parametrize("tag", [256, 258, 273, 279])
def test_duplicates_are_refused_for_tags_that_affect_pixels_only(tag: int) -> None:
    page = grey_page(16, 7, t305=b"Writer\0\0")
    data = tiff_of(page)
    at = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, at)[0]
    records = [data[start : start + 12] for start in range(at + 2, at + 2 + 12 * count, 12)]
    for twice, is_read in ((305, True), (tag, False)):
        again = next(record for record in records if struct.unpack_from("<H", record)[0] == twice)
        directory = struct.pack("<H", count + 1) + b"".join(records) + again + bytes(4)
        changed = data[:4] + struct.pack("<I", len(data)) + data[8:] + directory
        if is_read:
            assert shown(changed) == (16, 7)
        else:
            with pytest.raises(InvalidImage):
                tiff.read_header(changed, MOST)
