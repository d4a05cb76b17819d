"""Tests of the item tables."""

import struct

import pytest
from heif_files import Piece, av1, box, full, heif

from server.formats.heif.boxes import BrokenBoxError
from server.formats.heif.items import MAX_ITEMS, read_items

PICTURE = av1()
PLAIN = heif(PICTURE)


def test_items_with_their_places_properties_and_references_are_read() -> None:
    data = heif(PICTURE, Piece(b"mime", b"packet", content_type=b"text/plain"), references=[(b"cdsc", 2, [1])])
    items = read_items(data)
    picture, note = items.by_number[1], items.by_number[2]
    assert (items.primary, picture.kind, note.content_type) == (1, b"av01", b"text/plain")
    assert (items.content(picture), items.content(note)) == (PICTURE.content, b"packet")
    assert [data[one.start : one.end] for one in picture.properties] == list(PICTURE.properties)
    assert (items.sources(b"cdsc", [1]), items.targets(b"cdsc", 2)) == ([2], [1])


def with_table(kind: bytes, replaced: bytes, plain: bytes = PLAIN) -> bytes:
    # The meta box grows with its tables and moves later data, which does not affect these tests.
    start, meta = plain.index(kind) - 4, plain.index(b"meta") - 4
    end = start + int.from_bytes(plain[start : start + 4], "big")
    size = int.from_bytes(plain[meta : meta + 4], "big") + len(replaced) - (end - start)
    return plain[:meta] + size.to_bytes(4, "big") + plain[meta + 4 : start] + replaced + plain[end:]


MANY = MAX_ITEMS + 1
INFO = full(b"infe", b"\0\1\0\0av01\0", version=2)
HOSTILE = {
    "a hundred thousand items": (b"iinf", full(b"iinf", struct.pack(">I", 100_000) + INFO * 100_000, version=1)),
    "more items than are counted": (b"iinf", full(b"iinf", b"\0\1" + INFO * MANY)),
    "an item twice": (b"iinf", full(b"iinf", b"\0\2" + INFO * 2)),
    "an endless name": (b"iinf", full(b"iinf", b"\0\1" + full(b"infe", b"\0\1\0\0av01" + b"x" * 9999, version=2))),
    "forty thousand places": (b"iloc", full(b"iloc", struct.pack(">BBI", 0, 0, 40_000) + bytes(400_000), version=2)),
    "two places of an item": (b"iloc", full(b"iloc", b"\x44\0\0\2" + b"\0\1\0\0\0\0" * 2)),
    "endless pieces of an item": (b"iloc", full(b"iloc", b"\x44\0\0\1\0\1\0\0\xff\xff" + bytes(8 * 0xFFFF))),
    "a file read over and over": (
        b"iloc",
        full(b"iloc", b"\x44\0\0\1\0\1\0\0\0\x20" + struct.pack(">II", 0, 2000) * 32),
    ),
    "places that are cut off": (b"iloc", full(b"iloc", b"\x44\0\0\x09")),
    "a primary item that is not there": (b"pitm", full(b"pitm", b"\0\7")),
    "no primary item": (b"pitm", full(b"junk", b"\0\1")),
    "two lists of items": (b"pitm", full(b"pitm", b"\0\1") + full(b"iinf", b"\0\0")),
    "two thousand properties": (b"iprp", box(b"iprp", box(b"ipco", box(b"skip", b"") * 2001))),
    "two containers of properties": (b"iprp", box(b"iprp", box(b"ipco", b"") * 2)),
    "a property that is not there": (
        b"iprp",
        box(b"iprp", box(b"ipco", b"") + full(b"ipma", b"\0\0\0\1\0\1\1\x09")),
    ),
    "endless properties of items": (
        b"iprp",
        box(b"iprp", box(b"ipco", b"") + full(b"ipma", b"\0\0\0\x64" + b"\0\1\xff" * 100 + bytes(26_000)) * 2),
    ),
    "endless references": (
        b"pitm",
        full(b"pitm", b"\0\1") + full(b"iref", box(b"dimg", b"\0\1\x27\x11" + bytes(2 * 10_001))),
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_tables_larger_than_any_photo_needs_are_an_error(name: str) -> None:
    with pytest.raises(BrokenBoxError):
        read_items(with_table(*HOSTILE[name]))


@pytest.mark.parametrize(
    "data",
    [
        PLAIN + full(b"meta", b""),
        PLAIN + box(b"ftyp", b"avif"),
        box(b"ftyp", b"avif" * 2000) + PLAIN[32:],
        PLAIN + box(b"free", b"") * 1000,
        b"",
        PLAIN[:40],
    ],
    ids=["two metas", "two lists of brands", "endless brands", "endless boxes", "nothing", "cut off"],
)
def test_ambiguous_files_are_an_error(data: bytes) -> None:
    with pytest.raises(BrokenBoxError):
        read_items(data)


def test_boxes_that_decoders_do_not_need_are_listed() -> None:
    data = heif(PICTURE, tables=box(b"grpl", b""), tail=box(b"moov", bytes(99)) + box(b"uuid", bytes(16)))
    assert [one.kind for one in read_items(data).skipped] == [b"moov", b"uuid", b"grpl"]


def test_content_in_the_tables_and_content_nowhere_are_distinguished() -> None:
    inside = full(b"pitm", b"\0\1") + box(b"idat", b"inside")
    for method, content in ((1, b"side"), (2, b"")):
        place = struct.pack(">BBHHHHHII", 0x44, 0, 1, 1, method, 0, 1, 2, 4)
        items = read_items(with_table(b"pitm", inside, with_table(b"iloc", full(b"iloc", place, version=1))))
        assert items.content(items.by_number[1]) == content


def test_a_missing_box_is_named_as_text() -> None:
    with pytest.raises(BrokenBoxError, match=r"^there is no box 'meta'$"):
        read_items(PLAIN[: PLAIN.index(b"meta") - 4])
