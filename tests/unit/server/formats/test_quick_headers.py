"""Tests of which headers are read on the event loop."""

import io
import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
import PIL.Image
import pytest

from server.concurrency import INLINE_BYTES
from server.formats.base import QUICK_BYTES
from server.formats.header import is_quick

NOISE = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)


def saved(kind: str, image: PIL.Image.Image | None = None, **options: object) -> bytes:
    file = io.BytesIO()
    (image or PIL.Image.fromarray(NOISE)).save(file, kind, **options)
    return file.getvalue()


def chunked(png: bytes, size: int) -> bytes:
    """Return a PNG with its pixels in chunks of `size` bytes."""

    def chunks() -> Iterator[tuple[bytes, bytes]]:
        at = 8
        while at < len(png):
            (length,) = struct.unpack_from(">I", png, at)
            yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
            at += 12 + length

    packed = b"".join(body for kind, body in chunks() if kind == b"IDAT")
    pieces = [(b"IDAT", packed[at : at + size]) for at in range(0, len(packed), size)]
    first, *_, last = chunks()
    return png[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (first, *pieces, last)
    )


PNG = saved("PNG")
JPEG = saved("JPEG", quality=90, subsampling=0)


@pytest.mark.parametrize("data", [PNG, JPEG, chunked(PNG, 8192)], ids=["PNG", "JPEG", "PNG as libpng writes it"])
def test_usual_files_of_moderate_size_are_quick(data: bytes) -> None:
    assert INLINE_BYTES < len(data) <= QUICK_BYTES
    assert is_quick(data)


@pytest.mark.parametrize(
    "data",
    [
        chunked(PNG, 1000),
        PNG[:33] + bytes(INLINE_BYTES),
        cv2.imencode(".jpg", NOISE, [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes(),
        JPEG[:2] + b"\xff\xfe\x00\x02" * 64 + JPEG[2:],
        JPEG[:2] + b"\xff\xe2\x00\x06MPF\0" + JPEG[2:],
        JPEG.replace(b"\xff\xda\x00\x0c\x03", b"\xff\xda\x00\x08\x01", 1),
        saved("TIFF"),
        saved("PNG", PIL.Image.fromarray(np.tile(NOISE, (2, 1, 1)))),
        b"\xff\xd8\xff" + bytes(INLINE_BYTES),
    ],
    ids=[
        "many chunks",
        "empty chunks",
        "progressive",
        "many segments",
        "more pictures",
        "several scans",
        "TIFF",
        "large",
        "no scan",
    ],
)
def test_files_that_may_take_long_are_not_quick(data: bytes) -> None:
    assert len(data) > INLINE_BYTES
    assert not is_quick(data)


@pytest.mark.parametrize("kind", [b"iCCP", b"iTXt"])
def test_a_small_png_with_metadata_to_inflate_is_not_quick(kind: bytes) -> None:
    small = saved("PNG", PIL.Image.fromarray(NOISE[:16, :16]))
    assert is_quick(small)
    assert not is_quick(small[:33] + struct.pack(">I", 8) + kind + bytes(12) + small[33:])


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "BMP", "JPEG"])
def test_a_small_file_of_another_format_is_quick(kind: str) -> None:
    assert is_quick(saved(kind, PIL.Image.fromarray(NOISE[:16, :16])))


@pytest.mark.parametrize("data", [b"", b"text", bytes(INLINE_BYTES + 1)], ids=["empty", "text", "zeros"])
def test_what_is_no_image_is_refused_at_once(data: bytes) -> None:
    assert is_quick(data)
