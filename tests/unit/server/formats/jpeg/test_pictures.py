"""Tests of the parts found after the first picture of a JPEG."""

import io
import struct

import PIL.Image
import pytest

from server.formats import jpeg

APPLE = (
    b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a xmlns:p='http://ns.apple.com/pixeldatainfo/1.0/'>"
    b"<p:AuxiliaryImageType>urn:com:apple:photo:2020:aux:hdrgainmap</p:AuxiliaryImageType></a></x:xmpmeta>"
)
ADOBE = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a xmlns:h='http://ns.adobe.com/hdr-gain-map/1.0/' h:Version='1.0'/>"
DEPTH = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><a xmlns:d='http://ns.google.com/photos/dd/1.0/device/' d:A='1'/>"


def picture(xmp: bytes = b"") -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (16, 8), "teal").save(file, "JPEG", **({"xmp": xmp} if xmp else {}))
    return file.getvalue()


def with_segment(data: bytes, body: bytes) -> bytes:
    return data[:2] + b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body + data[2:]


def pictures(first: bytes, *others: bytes, order: str = ">", places: list[int] | None = None) -> bytes:
    """Return a file of several pictures with an index of their offsets, or with the given index."""
    count = 1 + len(others)

    def index(offsets: list[int]) -> bytes:
        entries = b"".join(struct.pack(f"{order}IIIHH", 0, 0, offset, 0, 0) for offset in offsets)
        header = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(f"{order}IH", 8, 2)
        tags = struct.pack(f"{order}HHII", 0xB001, 4, 1, count) + struct.pack(
            f"{order}HHIII", 0xB002, 7, 16 * count, 38, 0
        )
        return b"MPF\0" + header + tags + entries

    base = 2 + 4 + 4  # of the first segment
    at = len(with_segment(first, index([0] * count)))
    found = [0]
    for other in others:
        found.append(at - base)
        at += len(other)
    return with_segment(first, index(places or found)) + b"".join(others)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("others", "parts"),
    [
        ([picture(APPLE)], {"gain-map"}),
        ([picture(ADOBE)], {"gain-map"}),
        ([with_segment(picture(), b"urn:iso:std:iso:ts:21496:-1\0" + bytes(9))], {"gain-map"}),
        ([picture(DEPTH), picture(APPLE)], {"gain-map", "depth-map"}),
        ([picture()], set()),
    ],
    ids=["apple", "adobe", "iso", "both", "a preview"],
)
def test_the_metadata_of_further_pictures_names_the_parts(others: list[bytes], parts: set[str], order: str) -> None:
    assert jpeg.read_header(pictures(picture(), *others, order=order), 10_000).parts == parts


@pytest.mark.parametrize("places", [[0, 2**32 - 1], [0, 3], [0, 0], [0] + [2**31] * 40])
def test_an_index_that_points_nowhere_yields_no_parts(places: list[int]) -> None:
    assert jpeg.read_header(pictures(picture(), picture(APPLE), places=places), 10_000).parts == set()


@pytest.mark.parametrize("index", [b"MPF\0", b"MPF\0MM\0*", b"MPF\0II*\0\xff\xff\xff\xff", b"MPF\0" + bytes(40)])
def test_a_malformed_index_is_ignored(index: bytes) -> None:
    data = with_segment(picture(), index) + picture(APPLE)
    assert jpeg.read_header(data, 10_000).parts == set()


def test_pictures_behind_the_first_are_ignored_without_an_index() -> None:
    assert jpeg.read_header(picture() + picture(APPLE), 10_000).parts == set()


def movie(brand: bytes = b"mp42", more: bytes = b"isommp42") -> bytes:
    return (
        struct.pack(">I", 16 + len(more))
        + b"ftyp"
        + brand
        + bytes(4)
        + more
        + struct.pack(">I", 16)
        + b"mdat"
        + bytes(8)
    )


@pytest.mark.parametrize(
    "behind",
    [
        movie(),
        b"MotionPhoto_Data" + movie() + b"SEFH" + bytes(12) + b"SEFT",
        movie(b"qt  ", b"") + b"LIVE_12345678",
        b"ftyp" + bytes(300_000) + movie(),
        bytes(256 * 1024 - 2) + movie(),
    ],
    ids=["appended", "in a trailer", "with a tag behind", "after the same letters", "over the edge of a piece"],
)
def test_a_video_behind_the_picture_is_found_without_any_mention(behind: bytes) -> None:
    data = picture()
    header = jpeg.read_header(data + behind, 10_000)
    assert header.parts == {"motion-video"}
    assert jpeg.read_header(data, 10_000).parts == set()


@pytest.mark.parametrize(
    "behind",
    [
        b"ftyp",
        struct.pack(">I", 20) + b"ftypmp42",
        struct.pack(">I", 17) + b"ftypmp42" + bytes(20),
        struct.pack(">I", 2**31) + b"ftypmp42" + bytes(20),
        struct.pack(">I", 16) + b"ftyp\0\1\2\3" + bytes(20),
        movie() + picture(),
    ],
    ids=["letters", "cut off", "odd size", "huge", "no brand", "between pictures"],
)
def test_what_only_resembles_a_video_behind_the_picture_is_ignored(behind: bytes) -> None:
    assert jpeg.read_header(picture() + behind, 10_000).parts == set()
