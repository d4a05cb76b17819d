"""Tests of the format by the brands of a HEIF file."""

import pytest
from heif_files import Piece, av1, heif

from server.formats.heif.brands import format_by_brands

HEVC = Piece(b"hvc1", b"coded")


@pytest.mark.parametrize(
    ("brands", "expected"),
    [
        ((b"avif", b"mif1"), "AVIF"),
        ((b"mif1", b"miaf", b"avif"), "AVIF"),
        ((b"mif1", b"heic"), "HEIC"),
        ((b"msf1", b"hevc", b"mif1"), "HEIC"),
        ((b"heix",), "HEIC"),
        ((b"heic", b"mif1", b"avif"), "HEIC"),
        ((b"avif", b"mif1", b"heic"), "AVIF"),
        ((b"MiPr", b"mif1", b"MiHB"), "HEIC"),
        ((b"MA1B", b"mif1"), "AVIF"),
        ((b"isom", b"mp42"), ""),
        ((b"qt  ",), ""),
    ],
)
def test_the_first_brand_that_names_a_codec_decides(brands: tuple[bytes, ...], expected: str) -> None:
    data = heif(av1(), brands=brands)
    assert format_by_brands(data) == expected


@pytest.mark.parametrize(("piece", "expected"), [(av1(), "AVIF"), (HEVC, "HEIC")])
def test_without_a_brand_of_a_codec_the_picture_decides(piece: Piece, expected: str) -> None:
    assert format_by_brands(heif(piece, brands=(b"mif1", b"miaf"))) == expected


def test_any_start_of_a_file_gives_the_same_format_or_none() -> None:
    data = heif(HEVC, brands=(b"mif1", b"miaf", b"heic"))
    assert {format_by_brands(data[:end]) for end in range(12, len(data))} <= {"AVIF", "HEIC"}
    assert format_by_brands(data[:64]) == "HEIC"
