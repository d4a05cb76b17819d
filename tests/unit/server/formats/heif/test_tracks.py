"""Tests of image sequences."""

import struct

import pytest
from heif_files import av1, box, full, heif

from server.errors import UnsupportedImage
from server.formats import avif
from server.formats.heif.tracks import frames_of

SEQUENCE = (b"avis", b"avif", b"mif1")


def movie(*counts: int) -> bytes:
    body = b""
    for count in counts:
        track = full(b"stsz", struct.pack(">II", 0, count))
        for kind in (b"stbl", b"minf", b"mdia", b"trak"):
            track = box(kind, track)
        body += track
    return box(b"moov", body)


@pytest.mark.parametrize("counts", [(2,), (1, 48), (2**32 - 1,)])
def test_a_sequence_of_several_frames_is_refused_with_advice(counts: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedImage, match=r"more than one frame.*split it first"):
        avif.read_header(heif(av1(), brands=SEQUENCE, tail=movie(*counts)), 10**6)


@pytest.mark.parametrize("tail", [b"", movie(1), movie(), box(b"moov", bytes(40))])
def test_a_sequence_of_one_frame_is_its_still_picture(tail: bytes) -> None:
    data = heif(av1(), brands=SEQUENCE, tail=tail)
    header = avif.read_header(data, 10**6)
    assert avif.decode(data, header).colour[0].shape == (20, 36)


def test_a_still_picture_with_a_video_beside_it_is_read_as_the_picture() -> None:
    data = heif(av1(), tail=movie(48))
    assert avif.read_header(data, 10**6).width == 36
    assert frames_of(data, None) == 1
