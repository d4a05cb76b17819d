"""Tests of PNG's chunks."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from server.errors import ImageTooLarge, UndecodableImage
from server.formats import png

MOST = 10_000
NOISE = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)


def photo(**options: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(NOISE).save(file, "PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(*chunks: bytes) -> bytes:
    data = photo()
    return data[:33] + b"".join(chunks) + data[33:]


def xmp_chunk(packet: bytes, compressed: bool) -> bytes:
    text = zlib.compress(packet) if compressed else packet
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes((compressed, 0)) + b"\0\0" + text)


def test_colour_chunks_are_kept_unless_their_length_is_wrong() -> None:
    data = with_chunks(chunk(b"gAMA", b"\0\1\x86\xa0"), chunk(b"cHRM", b"short"), chunk(b"cICP", b"\x09\x10\0\1"))
    kept = png.read_header(data, MOST).metadata.colour_chunks
    assert kept == ((b"gAMA", b"\0\1\x86\xa0"), (b"cICP", b"\x09\x10\0\1"))


@pytest.mark.parametrize("compressed", [False, True])
def test_xmp_is_read_compressed_or_not_up_to_the_limit(compressed: bool) -> None:
    assert png.read_header(with_chunks(xmp_chunk(b"<xmp/>", compressed)), MOST).metadata.xmp == b"<xmp/>"
    with pytest.raises(ImageTooLarge):
        png.read_header(with_chunks(xmp_chunk(bytes(MOST + 1), compressed)), MOST)


def test_damaged_metadata_is_left_out_and_the_image_is_read() -> None:
    good = chunk(b"eXIf", b"II*\0\x08\0\0\0\0\0")
    damaged = good[:-1] + bytes([good[-1] ^ 1])
    header = png.read_header(with_chunks(damaged), MOST)
    assert header.metadata.exif is None
    np.testing.assert_array_equal(np.dstack(png.decode(with_chunks(damaged), header).colour), NOISE)


def test_pixels_in_many_pieces_are_read() -> None:
    data = photo()
    at = data.index(b"IDAT") + 4
    length = struct.unpack(">I", data[at - 8 : at - 4])[0]
    body = data[at : at + length]
    pieces = b"".join(chunk(b"IDAT", body[start : start + 3]) for start in range(0, length, 3))
    split = data[:33] + pieces + chunk(b"IEND", b"")
    np.testing.assert_array_equal(np.dstack(png.decode(split, png.read_header(split, MOST)).colour), NOISE)


@pytest.mark.parametrize("size", [8192, 600_000, 2_000_000])
def test_megabytes_of_pixels_are_read_from_chunks_of_any_size_and_from_empty_ones(size: int) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (800, 1000, 3), dtype=np.uint8)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in noise), 1)
    starts = range(0, len(body), size)
    chunks = b"".join(chunk(b"IDAT", body[start : start + size]) + chunk(b"IDAT", b"") for start in starts)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1000, 800, 8, 2, 0, 0, 0))
    data = photo()[:8] + header + chunks + chunk(b"IEND", b"")
    np.testing.assert_array_equal(np.dstack(png.decode(data, png.read_header(data, MOST)).colour), noise)
    cut = photo()[:8] + header + chunk(b"IDAT", body[: len(body) // 2]) + chunk(b"IEND", b"")
    with pytest.raises(UndecodableImage, match="cut off"):
        png.decode(cut, png.read_header(cut, MOST))


@pytest.mark.parametrize("missing", [1, 40])
def test_pixels_that_inflate_to_too_few_bytes_are_undecodable(missing: int) -> None:
    rows = bytes(9 * (1 + 33))[:-missing]
    data = photo()[:33] + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    with pytest.raises(UndecodableImage, match="cut off"):
        png.decode(data, png.read_header(data, MOST))
