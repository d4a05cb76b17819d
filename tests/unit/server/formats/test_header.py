"""Tests of the header probe."""

import io
import pickle
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageCms

from server import formats
from server.errors import EmptyUpload, ImageTooLarge, InvalidImage, UndecodableImage, UnsupportedImage
from server.formats.header import probe
from server.settings import LimitSettings

Encode = Callable[..., bytes]
LIMITS = LimitSettings()
KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "AVIF"]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_that_says(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def exif(orientation: int) -> PIL.Image.Exif:
    tags = PIL.Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("kind", KINDS)
def test_every_supported_format_is_read(kind: str, encode: Encode) -> None:
    header = probe(encode(kind), LIMITS)
    assert (header.format.upper(), header.width, header.height) == (kind, 40, 24)
    assert not header.is_grey
    assert not header.has_alpha


@pytest.mark.parametrize(
    ("kind", "mode", "is_grey", "has_alpha"),
    [
        ("PNG", "L", True, False),
        ("PNG", "LA", True, True),
        ("PNG", "1", True, False),
        ("PNG", "I;16", True, False),
        ("PNG", "RGBA", False, True),
        ("PNG", "P", False, True),
        ("JPEG", "L", True, False),
        ("JPEG", "CMYK", False, False),
        ("WEBP", "RGBA", False, True),
        ("TIFF", "RGBA", False, True),
        ("TIFF", "L", True, False),
    ],
)
def test_grey_and_alpha_are_detected(kind: str, mode: str, is_grey: bool, has_alpha: bool, encode: Encode) -> None:
    if mode == "I;16":
        file = io.BytesIO()
        PIL.Image.fromarray(np.zeros((4, 4), np.uint16)).save(file, kind)
        header = probe(file.getvalue(), LIMITS)
    else:
        header = probe(encode(kind, mode), LIMITS)
    assert (header.is_grey, header.has_alpha) == (is_grey, has_alpha)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_the_size_as_shown(kind: str, orientation: int, encode: Encode) -> None:
    header = probe(encode(kind, exif=exif(orientation)), LIMITS)
    assert (header.width, header.height) == ((24, 40) if orientation >= 5 else (40, 24))


def test_exif_behind_the_pixels_of_a_png_counts_too(encode: Encode) -> None:
    png = encode("PNG")
    late = png[:-12] + chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0")) + png[-12:]
    assert probe(late, LIMITS).orientation == 6


@pytest.mark.parametrize("tags", [b"", b"Exif\0\0", b"Exif\0\0garbage that is no TIFF", exif(9).tobytes()])
def test_malformed_exif_loses_the_orientation_but_not_the_image(tags: bytes, encode: Encode) -> None:
    assert probe(encode("JPEG", exif=tags), LIMITS).orientation == 1


def test_a_profile_is_found_in_every_format_that_carries_one(encode: Encode) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF"):
        assert probe(encode(kind, icc_profile=profile), LIMITS).metadata.icc_profile == profile


def test_zero_bytes_are_an_empty_upload() -> None:
    with pytest.raises(EmptyUpload):
        probe(b"", LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"II+\0",
        b"\0\0\0\x18ftypqt  ",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF89a" + bytes(50),
        b"\xff",
    ],
)
def test_an_unsupported_file_is_refused_with_the_list_of_formats(data: bytes) -> None:
    with pytest.raises(UnsupportedImage, match="JPEG, PNG, WebP, AVIF, TIFF, BMP") as caught:
        probe(data, LIMITS)
    assert caught.value.extensions["allowed_formats"] == list(formats.NAMES)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_more_than_one_frame_is_refused_with_advice(kind: str) -> None:
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    with pytest.raises(UnsupportedImage, match=r"more than one frame.*split it first"):
        probe(file.getvalue(), LIMITS)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_kind_of_tiff_that_would_lose_its_range_is_refused(mode: str) -> None:
    file = io.BytesIO()
    PIL.Image.new(mode, (4, 4)).save(file, "TIFF")
    with pytest.raises(UnsupportedImage, match="8 or 16 bits"):
        probe(file.getvalue(), LIMITS)


def test_too_many_pixels_are_refused_before_decoding() -> None:
    limits = LimitSettings(max_image_pixels=1000, max_image_side=50_000)
    with pytest.raises(ImageTooLarge, match="40000 x 40000") as caught:
        probe(png_that_says(40_000, 40_000), limits)
    assert caught.value.extensions == {"max_image_pixels": 1000}


def test_exactly_as_many_pixels_as_are_allowed_pass() -> None:
    limits = LimitSettings(max_image_pixels=1000)
    assert probe(png_that_says(100, 10), limits).width == 100
    with pytest.raises(ImageTooLarge):
        probe(png_that_says(91, 11), limits)


def test_a_side_too_long_is_refused() -> None:
    with pytest.raises(ImageTooLarge) as caught:
        probe(png_that_says(LIMITS.max_image_side + 1, 1), LIMITS)
    assert caught.value.extensions == {"max_image_side": LIMITS.max_image_side}


def test_too_many_bytes_are_refused(encode: Encode) -> None:
    with pytest.raises(ImageTooLarge) as caught:
        probe(encode("PNG"), LimitSettings(max_upload_bytes=20))
    assert caught.value.extensions == {"max_upload_bytes": 20}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_within_its_header_is_undecodable(kind: str, encode: Encode) -> None:
    with pytest.raises(UndecodableImage):
        probe(encode(kind)[:14], LIMITS)


@settings(deadline=None)
@given(
    st.sampled_from(
        [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\0\0\0WEBP", b"II*\0", b"MM\0*", b"BM", b"\0\0\0 ftypavif"]
    ),
    st.binary(),
)
def test_any_bytes_behind_a_signature_are_a_header_or_an_invalid_image(signature: bytes, rest: bytes) -> None:
    with suppress(InvalidImage):
        assert probe(signature + rest, LIMITS).width >= 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_metadata_beyond_the_limit_is_refused_with_the_limit(kind: str, encode: Encode) -> None:
    limits = LimitSettings(max_metadata_bytes=3000)
    assert probe(encode(kind, icc_profile=bytes(2900)), limits)
    with pytest.raises(ImageTooLarge, match="3000 bytes of colour profile") as caught:
        probe(encode(kind, icc_profile=np.random.default_rng(0).bytes(9000)), limits)
    assert caught.value.extensions == {"max_metadata_bytes": 3000}


@pytest.mark.parametrize("bytes_a_chunk", [8192, 100, 1], ids=["few chunks", "many", "more than are kept"])
def test_what_the_header_found_decodes_as_a_walk_through_the_file_does(bytes_a_chunk: int) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (24, 1 + 3 * 20), np.uint8)
    rows[:, 0] = 0
    packed = zlib.compress(rows.tobytes())
    body = struct.pack(">IIBBBBB", 20, 24, 8, 2, 0, 0, 0)
    pieces = [chunk(b"IDAT", packed[at : at + bytes_a_chunk]) for at in range(0, len(packed), bytes_a_chunk)]
    png = b"".join((b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", body), *pieces, chunk(b"IEND", b"")))
    jpeg = io.BytesIO()
    PIL.Image.fromarray(rows[:, 1:].reshape(24, 20, 3)).save(jpeg, "JPEG", progressive=True)
    for data in (png, jpeg.getvalue()):
        header = probe(data, LIMITS)
        elsewhere = pickle.loads(pickle.dumps(header))  # noqa: S301 - our own
        assert elsewhere == header._replace(found=None)
        decode = formats.format_of(data).decode
        for kept, walked in zip(decode(data, header).colour, decode(data, elsewhere).colour, strict=True):
            assert np.array_equal(kept, walked)
