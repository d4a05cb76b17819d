"""Tests of reading the picture of a HEIF file."""

import struct
from dataclasses import replace

import pytest
from heif_files import ALPHA, Piece, av1, box, full, heif, resized, size, with_properties, without

from server.errors import ImageTooLarge, InvalidImage, UndecodableImage, UnsupportedImage
from server.formats.heif.picture import Crop, for_decoder, read_picture

MOST = 10**6
PICTURE, TILE = av1(), av1(64, 64)
TIFF = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"


def read(data: bytes) -> object:
    return read_picture(data, "AVIF", MOST)


def colours(kind: bytes, body: bytes) -> bytes:
    return box(b"colr", kind + body)


def grid(rows: int, columns: int, width: int, height: int) -> Piece:
    layout = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    return Piece(b"grid", layout, (size(width, height),))


def test_only_the_exif_and_xmp_of_the_picture_are_read() -> None:
    notes = [
        Piece(b"Exif", b"\0\0\0\6Exif\0\0" + TIFF),
        Piece(b"mime", b"<x:xmpmeta/>", content_type=b"application/rdf+xml"),
        Piece(b"mime", b"{}", content_type=b"application/json"),
        Piece(b"Exif", bytes(4) + b"of another"),
    ]
    references = [(b"cdsc", 2, [1]), (b"cdsc", 3, [1]), (b"cdsc", 4, [1]), (b"cdsc", 5, [9])]
    found = read_picture(heif(PICTURE, *notes, references=references), "AVIF", MOST)
    assert (found.metadata.exif, found.metadata.xmp) == (TIFF, b"<x:xmpmeta/>")
    assert found.orientation == 1  # only the tables determine the orientation


@pytest.mark.parametrize(
    "start", [bytes(4), b"\0\0\0\6Exif\0\0", b"\0\0\0\3abc", b"\xff\xff\xff\xff", b"\0\0\0\0Exif\0\0", b""]
)
def test_exif_is_found_with_any_stated_distance(start: bytes) -> None:
    note = Piece(b"Exif", start + TIFF)
    assert read_picture(heif(PICTURE, note, references=[(b"cdsc", 2, [1])]), "AVIF", MOST).metadata.exif == TIFF


@pytest.mark.parametrize("stray", [b"II*\0\xff\xff\xff\xff", b"MM\0*" * 20, b"Exif\0\0II*\0" + b"\xff" * 99])
@pytest.mark.parametrize("place", ["behind", "in the tables", "in another item"])
def test_bytes_that_look_like_exif_are_not_read_as_exif(stray: bytes, place: str) -> None:
    data = {
        "behind": heif(PICTURE, tail=box(b"free", stray)),
        "in the tables": heif(PICTURE, tables=box(b"free", stray)),
        "in another item": heif(PICTURE, Piece(b"Exif", stray)),
    }[place]
    assert read_picture(data, "AVIF", MOST).metadata.exif is None


@pytest.mark.parametrize("kind", [b"Exif", b"mime", b"prof"])
def test_metadata_is_checked_against_its_limit_before_it_is_copied(kind: bytes) -> None:
    note = Piece(kind, bytes(2000), content_type=b"application/rdf+xml")
    picture = with_properties(PICTURE, colours(b"prof", bytes(2000))) if kind == b"prof" else PICTURE
    with pytest.raises(ImageTooLarge):
        read_picture(heif(picture, note, references=[(b"cdsc", 2, [1])]), "AVIF", 1000)


def test_a_profile_takes_precedence_over_code_points() -> None:
    points = colours(b"nclx", struct.pack(">HHHB", 9, 16, 9, 0x80))
    bare = without(PICTURE, b"colr")
    alone = read_picture(heif(with_properties(bare, points)), "AVIF", MOST).metadata
    assert (alone.icc_profile, alone.colour_chunks) == (None, ((b"cICP", b"\x09\x10\0\1"),))
    both = read_picture(heif(with_properties(bare, points, colours(b"prof", b"profile"))), "AVIF", MOST).metadata
    assert (both.icc_profile, both.colour_chunks) == (b"profile", ())
    assert read_picture(heif(bare), "AVIF", MOST).metadata.colour_chunks == ()


@pytest.mark.parametrize("points", [(1, 13), (2, 2), (1, 2), (2, 13), (300, 13)])
def test_srgb_and_unknown_colours_have_no_code_points(points: tuple[int, int]) -> None:
    picture = with_properties(PICTURE, colours(b"nclx", struct.pack(">HHHB", *points, 6, 0)))
    assert read_picture(heif(picture), "AVIF", MOST).metadata.colour_chunks == ()


@pytest.mark.parametrize(
    ("aperture", "expected"),
    [
        ((20, 1, 10, 1, 0, 1, 0, 1), Crop(8, 5, 20, 10)),
        ((20, 1, 10, 1, -8, 1, 5, 1), Crop(0, 10, 20, 10)),
        ((35, 1, 19, 1, -1, 2, 1, 2), Crop(0, 1, 35, 19)),
        ((40, 1, 10, 1, 0, 1, 0, 1), Crop(0, 0, 36, 20)),
        ((20, 0, 10, 1, 0, 1, 0, 1), Crop(0, 0, 36, 20)),
        ((20, 3, 10, 1, 0, 1, 0, 1), Crop(0, 0, 36, 20)),
        ((0, 1, 10, 1, 0, 1, 0, 1), Crop(0, 0, 36, 20)),
    ],
)
def test_an_aperture_outside_the_picture_is_ignored(aperture: tuple[int, ...], expected: Crop) -> None:
    picture = with_properties(PICTURE, box(b"clap", struct.pack(">iIiIiIiI", *aperture)))
    assert read_picture(heif(picture), "AVIF", MOST).crop == expected


def test_tiles_form_a_picture_and_may_have_alpha() -> None:
    alpha = with_properties(TILE, full(b"auxC", ALPHA + b"\0"))
    references = [(b"dimg", 1, [2, 3]), (b"auxl", 4, [2])]
    found = read_picture(heif(grid(1, 2, 128, 64), TILE, TILE, alpha, references=references), "AVIF", MOST)
    assert (found.width, found.height, found.has_alpha) == (128, 64, True)


HOSTILE: dict[str, bytes] = {
    "a stream larger than its tables say": heif(resized(av1(2048, 2048), 8, 8)),
    "a tile a thousand times over": heif(
        grid(100, 10, 64, 64), resized(TILE, 64, 64), references=[(b"dimg", 1, [2] * 1000)]
    ),
    "a large alpha": heif(
        PICTURE,
        with_properties(av1(2048, 2048), full(b"auxC", ALPHA + b"\0")),
        references=[(b"auxl", 2, [1])],
    ),
    "no size": heif(without(PICTURE, b"ispe")),
    "a size of nothing in its stream": heif(replace(PICTURE, content=b"")),
    "a stream without a header": heif(replace(PICTURE, content=b"\x12\0")),
    "no decoder parameters": heif(Piece(b"av01", PICTURE.content, (size(36, 20),))),
    "a tile that is not there": heif(grid(1, 1, 64, 64), TILE, references=[(b"dimg", 1, [9])]),
    "an empty grid": heif(grid(1, 1, 64, 64)),
    "a grid of a grid": heif(grid(1, 1, 64, 64), grid(1, 1, 64, 64), references=[(b"dimg", 1, [2]), (b"dimg", 2, [1])]),
    "an overlay": heif(Piece(b"iovl", bytes(20), (size(64, 64),)), TILE, references=[(b"dimg", 1, [2])]),
    "an angle of no bytes": heif(with_properties(PICTURE, box(b"irot", b""))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_picture_that_decodes_to_more_than_its_size_is_refused(name: str) -> None:
    with pytest.raises(InvalidImage):
        read(HOSTILE[name])


def test_the_refusal_of_a_stream_that_is_too_large_names_both_sizes() -> None:
    with pytest.raises(ImageTooLarge, match="8 x 8, but would decode to 4194304 pixels"):
        read(HOSTILE["a stream larger than its tables say"])
    with pytest.raises(UnsupportedImage, match="'iovl'"):
        read(HOSTILE["an overlay"])
    with pytest.raises(UndecodableImage, match="an image has no size"):
        read(HOSTILE["no size"])


def test_decoders_see_only_images_at_unchanged_offsets() -> None:
    note = Piece(b"Exif", bytes(4) + TIFF)
    data = heif(
        PICTURE,
        note,
        TILE,
        references=[(b"cdsc", 2, [1])],
        tables=box(b"grpl", b"groups"),
        tail=box(b"moov", b"tracks"),
    )
    shown = bytes(for_decoder(read_picture(data, "AVIF", MOST)))
    assert len(shown) == len(data)
    assert shown.count(b"free") == 2
    for kind in (b"Exif\0", b"grpl", b"moov"):
        assert kind not in shown
    items = read_picture(shown, "AVIF", MOST).items
    assert items.content(items.by_number[1]) == PICTURE.content
    assert [shown[item.flags_at] for item in items.by_number.values()] == [0, 1, 1]


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (b"urn:com:apple:photo:2020:aux:hdrgainmap", {"gain-map"}),
        (b"urn:mpeg:hevc:2015:auxid:2", {"depth-map"}),
        (b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth", {"depth-map"}),
        (b"urn:example:unknown", set()),
    ],
)
def test_the_parts_besides_a_picture_are_named(kind: bytes, part: set[str]) -> None:
    beside = with_properties(TILE, full(b"auxC", kind + b"\0"))
    data = heif(TILE, beside, references=[(b"auxl", 2, [1])])
    assert read_picture(data, "AVIF", MOST).parts == part
