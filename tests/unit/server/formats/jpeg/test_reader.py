"""Tests of JPEG's segments."""

import io
import struct

import numpy as np
import PIL.Image
import pytest

from server.errors import ImageTooLarge, UndecodableImage, UnsupportedImage
from server.formats import jpeg
from server.formats.jpeg.markers import MAX_SEGMENTS

MOST = 10**6


def photo(mode: str = "RGB", **options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(noise).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def with_segments(data: bytes, *segments: tuple[int, bytes]) -> bytes:
    inserted = b"".join(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
    return data[:2] + inserted + data[2:]


def profile_pieces(*pieces: tuple[int, int, bytes]) -> list[tuple[int, bytes]]:
    return [(0xE2, b"ICC_PROFILE\0" + bytes((number, count)) + body) for number, count, body in pieces]


def test_the_pieces_of_a_profile_are_joined_in_order() -> None:
    data = with_segments(photo(), *profile_pieces((2, 3, b"b"), (3, 3, b"c"), (1, 3, b"a")))
    assert jpeg.read_header(data, MOST).metadata.icc_profile == b"abc"


@pytest.mark.parametrize("pieces", [[(1, 2, b"a")], [(2, 2, b"b")], [(0, 0, b"a")]])
def test_a_profile_with_a_missing_piece_is_ignored(pieces: list[tuple[int, int, bytes]]) -> None:
    assert jpeg.read_header(with_segments(photo(), *profile_pieces(*pieces)), MOST).metadata.icc_profile is None


def test_the_limit_applies_to_all_pieces_of_a_profile_together() -> None:
    data = with_segments(photo(), *profile_pieces((1, 2, bytes(600)), (2, 2, bytes(600))))
    with pytest.raises(ImageTooLarge):
        jpeg.read_header(data, 1000)


def test_fill_bytes_comments_and_pictures_behind_the_end_do_not_matter() -> None:
    plain = photo()
    odd = with_segments(plain, (0xFE, b"comment"), (0xED, b"8BIM" * 100)).replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1)
    odd += b"\xff\xd8\xff\xda" * 500  # a phone's second picture
    same_planes(odd, plain)


def test_the_scans_that_cameras_write_are_read_and_thousands_are_refused() -> None:
    progressive = photo(progressive=True)
    assert jpeg.read_header(progressive, MOST).width == 24
    last = progressive.rindex(b"\xff\xda")
    with pytest.raises(UnsupportedImage, match="scans"):
        jpeg.read_header(progressive[:-2] + progressive[last:-2] * 200 + b"\xff\xd9", MOST)


def test_marker_bytes_in_a_comment_between_scans_do_not_hide_scans() -> None:
    progressive = photo(progressive=True)
    last = progressive.rindex(b"\xff\xda")
    comment = b"\xff\xfe\0\x06\xff\xd9\xff\xd9"
    with pytest.raises(UnsupportedImage, match="scans"):
        jpeg.read_header(progressive[:-2] + (comment + progressive[last:-2]) * 200 + b"\xff\xd9", MOST)


HIDING = [b"\xff\1", b"\xff\xd3", b"\xff\xff", b"\xff\0", b"\xff\xfe\0\4\xff\xda"]


@pytest.mark.parametrize("hiding", HIDING)
def test_scans_are_counted_behind_markers_without_a_length(hiding: bytes) -> None:
    progressive = photo(progressive=True)
    last = progressive.rindex(b"\xff\xda")
    block = progressive[last:-2] * 100
    hidden = progressive[:-2] + (hiding + block + bytes(65_536)) * 2 + b"\xff\xd9"
    with pytest.raises(UnsupportedImage, match="scans"):
        jpeg.read_header(hidden, MOST)


def test_a_scan_behind_a_complete_picture_never_reaches_the_decoder() -> None:
    plain = photo()
    scan = plain.index(b"\xff\xda")
    more = plain[:-2] + plain[scan:-2] * 3000 + b"\xff\xd9"
    same_planes(more, plain)


@pytest.mark.parametrize("hiding", HIDING)
def test_the_size_read_early_is_the_size_that_is_decoded(hiding: bytes) -> None:
    # The other reader of the size took the bytes after such a marker for its length, and found another frame there.
    plain = photo()
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, 1, 1, 1) + b"\1\x11\0"
    for length in (b"", b"\0\6"):
        data = plain[:2] + hiding + length + with_segments(b"", (0xEB, frame)) + plain[2:]
        assert jpeg.peek(data) == (16, 24)
        same_planes(data, plain)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("trailer", [b"", bytes(999), b"SEFHj\0\0\0SEFT", b"\xff\xc4\0\4ab", b"\xff\xd8\xff\xe0\0\4ab"])
def test_a_file_with_all_pixels_but_no_end_marker_is_read(
    mode: str, options: dict[str, object], trailer: bytes
) -> None:
    plain = photo(mode, **options)
    same_planes(plain[:-2] + trailer, plain)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 1}]
)
def test_a_file_that_lacks_pixels_and_an_end_marker_is_refused_at_every_cut(
    mode: str, options: dict[str, object]
) -> None:
    plain = photo(mode, **options)
    scan = plain.index(b"\xff\xda")
    for end in range(scan + 30, len(plain) - 5):  # the last bytes may only be bit padding
        with pytest.raises(UndecodableImage):
            same_planes(plain[:end], plain)


def same_planes(data: bytes, plain: bytes) -> None:
    found = jpeg.decode(data, jpeg.read_header(data, MOST))
    expected = jpeg.decode(plain, jpeg.read_header(plain, MOST))
    for ours, theirs in zip(found.colour, expected.colour, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("transform", [0, 2])
def test_cmyk_is_read_whether_coded_directly_or_as_ycck(transform: int) -> None:
    # Pillow writes CMYK with Adobe's marker, which determines how a decoder reads the samples.
    data = bytearray(photo("CMYK"))
    at = data.index(b"Adobe")
    data[at + 11] = transform
    file = bytes(data)
    planes = jpeg.decode(file, jpeg.read_header(file, MOST))
    expected = np.asarray(PIL.Image.open(io.BytesIO(file)).convert("RGB"))
    np.testing.assert_array_equal(np.dstack(planes.colour), expected)


def test_a_file_that_ends_before_its_pixels_is_undecodable() -> None:
    data = photo()
    for end in range(3, data.index(b"\xff\xda") + 4):
        with pytest.raises(UndecodableImage):
            jpeg.read_header(data[:end], MOST)


def test_a_file_with_too_many_segments_is_told_so() -> None:
    with pytest.raises(ImageTooLarge, match=f"more than {MAX_SEGMENTS} segments"):
        jpeg.read_header(with_segments(photo(), *[(0xFE, b"")] * MAX_SEGMENTS), MOST)
