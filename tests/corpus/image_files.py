"""Image files written byte by byte, sound or not as their parts say."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import PIL.Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SIDE = 32


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    """Build a PNG chunk, with the correct checksum unless another is given."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum or zlib.crc32(kind + body))


def png(width: int, height: int, pixels: bytes, *extra: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """Build a PNG of raw rows, with additional chunks before its pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return SIGNATURE + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")


def tiff(*entries: tuple[int, int, int, int], order: str = "<", following: int = 0, body: bytes = b"") -> bytes:
    """Build a TIFF with these (tag, type, count, value or offset) entries in its first directory, and its body at 8."""
    at = 8 + len(body)
    fields = b"".join(struct.pack(f"{order}HHII", *entry) for entry in sorted(entries))
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(f"{order}I", at) + body
    return head + struct.pack(f"{order}H", len(entries)) + fields + struct.pack(f"{order}I", following)


def layout(width: int, height: int, size: int, *more: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """Return the entries of an uncompressed grey TIFF whose pixels are at offset 8."""
    entries = {256: (4, width), 257: (4, height), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 8), 277: (3, 1)}
    entries |= {278: (4, height), 279: (4, size)}
    listed = [(tag, kind, 1, value) for tag, (kind, value) in entries.items() if tag not in {one[0] for one in more}]
    return [*listed, *more]


def photo(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """Encode a small noisy image with Pillow."""
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(noise).convert(mode).save(file, kind, **options)
    return file.getvalue()


def exif_of_overlapping_tags() -> bytes:
    """Build EXIF whose thousands of tags share one long value: 600 MB if each is copied."""
    count, shared = 4000, 150_000
    at = 8 + 2 + 12 * count + 4
    fields = b"".join(struct.pack("<HHII", 0xC000 + number, 7, shared, at) for number in range(count))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", count) + fields + bytes(4 + shared)
