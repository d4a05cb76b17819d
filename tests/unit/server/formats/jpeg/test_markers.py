"""Tests of the iteration over the markers of a JPEG."""

import pytest

from server.formats.jpeg.markers import EOI, SOI, SOS, Segment, frame, walk

SEGMENT = b"\xff\xe5\0\4ab"
END = b"\xff\xd9"


def markers(data: bytes) -> list[int]:
    return [segment.marker for segment in walk(data)]


@pytest.mark.parametrize("between", [b"", b"\xff\1", b"\xff\xd0\xff\xd7", b"\xff\0", b"\xff\1\0\4", b"x" * 50])
def test_markers_without_a_length_are_skipped_everywhere(between: bytes) -> None:
    scan = b"\xff\xda\0\2coded" + between + b"data"
    data = b"\xff\xd8" + between + b"\xff\xff" + SEGMENT + between + scan + b"\xff\xff" + SEGMENT + END
    assert markers(data) == [0xE5, SOS, 0xE5, EOI]


def test_a_marker_across_the_boundary_of_searched_pieces_is_found() -> None:
    for coded in range(256 * 1024 - 8, 256 * 1024 + 2):
        assert markers(b"\xff\xd8" + bytes(coded) + SEGMENT + END) == [0xE5, EOI]


def test_the_iteration_stops_at_the_end_of_the_picture() -> None:
    assert markers(b"\xff\xd8" + SEGMENT + END + SEGMENT) == [0xE5, EOI]
    assert markers(b"\xff\xd8" + SEGMENT + b"\xff\xd8" + SEGMENT) == [0xE5, SOI]


@pytest.mark.parametrize("rest", [b"", b"\xff", b"\xff\xe1", b"\xff\xe1\0", b"\xff\xe1\0\1ab", b"\xff\xe1\0\x09ab"])
def test_the_iteration_stops_at_a_segment_that_exceeds_the_data(rest: bytes) -> None:
    assert markers(b"\xff\xd8" + SEGMENT + rest) == [0xE5]


def test_the_iteration_stops_long_before_a_million_segments() -> None:
    assert len(markers(b"\xff\xd8" + b"\xff\xe5\0\2" * 1_000_000)) == 4096


def test_an_incomplete_frame_header_is_not_read() -> None:
    data = b"\xff\xc0\0\x0b\x08\0\x10\0\x18\1\7\x11\0"
    assert frame(data, Segment(0xC0, 0, 13)) == (8, 16, 24, (7,))
    for end in range(4, 13):
        assert frame(data, Segment(0xC0, 0, end)) is None
