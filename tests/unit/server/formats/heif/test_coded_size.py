"""Tests of the sizes that coded pictures state."""

import io
from typing import Any

import numpy as np
import PIL.Image
import pytest
from heif_files import av1, picture

from server.formats.heif.boxes import BrokenBoxError
from server.formats.heif.coded_size import Size, av1_sizes, hevc_sizes


@pytest.mark.parametrize("size", [(1, 1), (36, 20), (257, 129)])
def test_the_size_of_av1_is_that_of_the_picture(size: tuple[int, int]) -> None:
    assert list(av1_sizes(av1(*size).content)) == [size]


def test_the_full_header_of_a_video_is_read_too() -> None:
    # A sequence's header: not reduced, with timing, a decoder model and one operating point.
    fields = [(0, 3), (0, 1), (0, 1), (1, 1), (1, 32), (25, 32), (1, 1), (1, 1), (1, 1), (4, 5), (1, 32), (0, 10)]
    fields += [(1, 1), (0, 5), (0, 12), (8, 5), (0, 1), (1, 1), (0, 11), (1, 1), (0, 4)]
    fields += [(11, 4), (10, 4), (1919, 12), (1079, 11)]
    bits = "".join(f"{value:0{width}b}" for value, width in fields)
    header = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    assert list(av1_sizes(b"\x12\0\x0a" + bytes((len(header),)) + header)) == [Size(1920, 1080)]


def heic(width: int, height: int, **options: Any) -> tuple[bytes, bytes]:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pillow_heif.from_pillow(PIL.Image.fromarray(noise)).save(file, quality=50, **options)
    coded = picture(file.getvalue())
    return next(one[8:] for one in coded.properties if one[4:8] == b"hvcC"), coded.content


@pytest.mark.parametrize("chroma", [420, 444])
def test_the_size_of_hevc_is_that_of_the_picture_in_whole_blocks(chroma: int) -> None:
    assert list(hevc_sizes(*heic(200, 120, chroma=chroma))) == [(200, 120)]


def test_parameter_sets_in_the_stream_are_read_too() -> None:
    parameters, content = heic(64, 64)
    start = parameters.index(b"\x42\1")
    length = int.from_bytes(parameters[start - 2 : start], "big")
    unit = length.to_bytes(4, "big") + parameters[start : start + length]
    assert list(hevc_sizes(parameters, unit + content)) == [(64, 64), (64, 64)]


@pytest.mark.parametrize("end", range(1, 8))
def test_a_header_that_is_cut_off_is_an_error(end: int) -> None:
    header = b"\x0a\x06" + av1().content[4:10]
    with pytest.raises(BrokenBoxError):
        list(av1_sizes(header[:end]))


def test_too_many_units_are_an_error() -> None:
    with pytest.raises(BrokenBoxError):
        list(av1_sizes(b"\x12\0" * 20_000))
    with pytest.raises(BrokenBoxError):
        list(hevc_sizes(bytes(21) + b"\3\0", bytes(80_000)))
    with pytest.raises(BrokenBoxError):
        list(hevc_sizes(bytes(9), b""))
