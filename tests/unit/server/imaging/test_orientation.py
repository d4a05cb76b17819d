"""Tests of the orientation in XMP."""

import time

import pytest

from server.imaging.orientation import of_xmp, upright_xmp

NAMED = b'<x xmlns:t="http://ns.adobe.com/tiff/1.0/" '


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        (b'<rdf tiff:Orientation="6" x="6">', 6, b'<rdf tiff:Orientation="1" x="6">'),
        (b"<rdf tiff:Orientation = '6'>", 6, b"<rdf tiff:Orientation = '1'>"),
        (b"<tiff:Orientation>8</tiff:Orientation>", 8, b"<tiff:Orientation>1</tiff:Orientation>"),
        (b"<tiff:Orientation> 8\n</tiff:Orientation>", 8, b"<tiff:Orientation> 1\n</tiff:Orientation>"),
        (b"<tiff:Orientation a:b='c'>3</tiff:Orientation>", 3, b"<tiff:Orientation a:b='c'>1</tiff:Orientation>"),
        (NAMED + b't:Orientation="5"/>', 5, NAMED + b't:Orientation="1"/>'),
        (
            b'<a tiff:Orientation="6"/><b tiff:Orientation="3"/>',
            6,
            b'<a tiff:Orientation="1"/><b tiff:Orientation="1"/>',
        ),
        (b'<rdf tiff:Orientation="0">', None, b'<rdf tiff:Orientation="0">'),
        (b'<rdf tiff:Orientation="16">', None, b'<rdf tiff:Orientation="16">'),
        (b'<rdf other:Orientation="6">', None, b'<rdf other:Orientation="6">'),
        (b"<no such thing 6>", None, b"<no such thing 6>"),
    ],
)
def test_the_orientation_is_found_and_reset_in_every_notation(before: bytes, value: int | None, after: bytes) -> None:
    assert of_xmp(before) == value
    assert upright_xmp(before) == after


def test_without_a_packet_there_is_no_orientation() -> None:
    assert of_xmp(None) is None
    assert upright_xmp(None) is None


@pytest.mark.parametrize("piece", [b"tiff:Orientation ", b"tiff:Orientation", b" ", b'xmlns:a="', NAMED])
def test_four_megabytes_of_incomplete_matches_take_little_time(piece: bytes) -> None:
    began = time.process_time()
    assert of_xmp(piece * (2**22 // len(piece))) is None
    assert time.process_time() - began < 5  # seconds; quadratic time would be hours
