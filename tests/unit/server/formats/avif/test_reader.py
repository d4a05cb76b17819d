"""Tests of AVIF."""

import io
import struct

import cv2
import numpy as np
import PIL.Image
import pytest
from heif_files import ALPHA, Piece, av1, box, full, heif, picture, with_properties, without

from server.errors import UnsupportedImage
from server.formats import avif, codec, format_of
from server.formats.header import probe
from server.formats.output import OutputFormat
from server.settings import LimitSettings

MOST = 10**6
NOISE = np.random.default_rng(0).integers(0, 256, (20, 36, 4), dtype=np.uint8)


def photo(mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(NOISE).convert(mode).save(file, "AVIF", speed=9, **options)
    return file.getvalue()


@pytest.mark.parametrize(("mode", "planes", "has_alpha"), [("L", 1, False), ("RGB", 3, False), ("RGBA", 3, True)])
def test_grey_colour_and_alpha_are_distinguished_and_read(mode: str, planes: int, has_alpha: bool) -> None:
    data = photo(mode)
    header = avif.read_header(data, MOST)
    assert (header.width, header.height, header.is_grey, header.has_alpha) == (36, 20, planes == 1, has_alpha)
    found = avif.decode(data, header)
    assert len(found.colour) == planes
    assert (found.alpha is not None) == has_alpha


@pytest.mark.parametrize("brands", [(b"avif",), (b"mif1", b"avif"), (b"mif1", b"miaf"), (b"avis", b"avif"), (b"mif1",)])
def test_files_with_any_brand_of_avif_are_read_alike(brands: tuple[bytes, ...]) -> None:
    data = heif(av1(), brands=brands)
    assert format_of(data).name == "AVIF"
    assert avif.decode(data, avif.read_header(data, MOST)).colour[0].shape == (20, 36)


def test_exif_whose_tags_overlap_reaches_no_decoder_and_no_answer() -> None:
    block = b"II*\0\x08\0\0\0" + (500).to_bytes(2, "little")
    block += b"".join(tag.to_bytes(2, "little") + b"\7\0" + b"\x40\x9c\0\0" + b"\x08\0\0\0" for tag in range(500))
    data = heif(av1(), Piece(b"Exif", bytes(4) + block + bytes(40_000)), references=[(b"cdsc", 2, [1])])
    image = codec.decode(data, probe(data, LimitSettings()))
    for output in OutputFormat:
        assert len(codec.encode(image, image.planes, output, 90)) < 200_000


@pytest.mark.parametrize("depth", [10, 12])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_deep_samples_are_read_in_full_even_if_the_exif_is_malformed(depth: int, channels: int) -> None:
    samples = np.random.default_rng(0).integers(0, 2**depth, (32, 48, channels), dtype=np.uint16)
    flags = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100, cv2.IMWRITE_AVIF_SPEED, 10]
    coded = picture(cv2.imencode(".avif", samples, flags)[1].tobytes())
    alpha = [with_properties(coded, full(b"auxC", ALPHA + b"\0"))] if channels == 4 else []
    exif = Piece(b"Exif", b"\xff\xff\xff\xffbroken")
    references = [(b"cdsc", 2, [1]), *((b"auxl", 3, [1]) for _ in alpha)]
    data = heif(coded, exif, *alpha, references=references)
    planes = avif.decode(data, avif.read_header(data, MOST))
    assert {plane.dtype for plane in planes.colour} == {np.dtype(np.uint16)}
    assert max(plane.max() for plane in planes.colour) > 65_000
    assert (planes.alpha is None) == (channels != 4)


def test_the_picture_is_cropped_before_it_is_turned() -> None:
    aperture = box(b"clap", struct.pack(">IIIIIIII", 20, 1, 10, 1, 0, 1, 0, 1))
    data = heif(with_properties(av1(), aperture, box(b"irot", b"\1")))
    whole = heif(av1())
    header = probe(data, LimitSettings())
    expected = avif.decode(whole, avif.read_header(whole, MOST)).colour[0][5:15, 8:28]
    assert (header.width, header.height, header.orientation) == (10, 20, 8)
    np.testing.assert_array_equal(codec.decode(data, header).planes[0], np.rot90(expected))


@pytest.mark.parametrize("points", [(12, 13), (9, 16), (9, 18), (1, 8)])
def test_code_points_are_preserved_in_avif_and_png(points: tuple[int, int]) -> None:
    data = heif(
        with_properties(without(av1(), b"colr"), box(b"colr", b"nclx" + struct.pack(">HHHB", *points, 6, 0x80)))
    )
    image = codec.decode(data, probe(data, LimitSettings()))
    for output in (OutputFormat.AVIF, OutputFormat.PNG):
        written = codec.encode(image, image.planes, output, 90)
        chunks = probe(written, LimitSettings()).metadata.colour_chunks
        assert dict(chunks)[b"cICP"] == bytes((*points, 0, 1))
    assert PIL.Image.open(io.BytesIO(codec.encode(image, image.planes, OutputFormat.AVIF, 90))).size == (36, 20)


def test_without_the_library_avif_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    data = photo()
    monkeypatch.setattr(avif.plugin.plugin(), "SUPPORTED", False)
    with pytest.raises(UnsupportedImage, match="built without AVIF"):
        avif.read_header(data, MOST)
