"""Broken AVIF and TIFF files: boxes and directories that point where they should not."""

import struct
import zlib
from collections.abc import Iterator

from image_files import layout, photo, tiff


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full_box(kind: bytes, body: bytes, version: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24) + body)


def avifs() -> Iterator[tuple[str, bytes]]:
    good = photo("AVIF")
    kinds = _box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")
    handler, first = _full_box(b"hdlr", b"\0\0\0\0pict" + bytes(13)), _full_box(b"pitm", b"\0\1")
    info = _full_box(b"infe", b"\0\1\0\0av01\0", version=2)
    one, none = _full_box(b"iinf", b"\0\1" + info), _full_box(b"iloc", b"\x44\0\0\0")

    def tables(*boxes: bytes) -> bytes:
        return kinds + _full_box(b"meta", b"".join((handler, first, *boxes)))

    many = b"".join(
        _full_box(b"infe", struct.pack(">IH4s", number, 0, b"av01") + b"\0", version=3) for number in range(1, 100_001)
    )
    yield "hundred-thousand-items.avif", tables(_full_box(b"iinf", struct.pack(">I", 100_000) + many, 1), none)
    places = b"".join(struct.pack(">IHHH", number, 0, 0, 0) for number in range(1, 40_001))
    yield "forty-thousand-places.avif", tables(one, _full_box(b"iloc", struct.pack(">BBI", 0, 0, 40_000) + places, 2))
    extents = struct.pack(">BBHHHH", 0x44, 0, 1, 1, 0, 65_535) + struct.pack(">II", 0, 2**20) * 65_535
    yield "a-file-sixty-thousand-times-over.avif", tables(one, _full_box(b"iloc", extents))
    yield "million-properties.avif", tables(one, none, _box(b"iprp", _box(b"ipco", _box(b"skip", b"") * 1_000_000)))
    of_items = b"".join(struct.pack(">IBB", number, 1, 1) for number in range(1, 20_001))
    listed = _box(b"ipco", _full_box(b"ispe", bytes(8))) + _full_box(b"ipma", struct.pack(">I", 20_000) + of_items, 1)
    yield "twenty-thousand-properties-of-items.avif", tables(one, none, _box(b"iprp", listed))
    yield "million-references.avif", tables(one, none, _full_box(b"iref", _box(b"thmb", b"\0\1\0\0") * 1_000_000))
    yield "two-lists-of-items.avif", tables(one, one, none)
    yield "boxes-in-boxes.avif", tables(one, none, _box(b"iprp", _box(b"ipco", b"")) * 2)
    yield "million-boxes.avif", good + _box(b"free", b"") * 1_000_000
    yield "exif-header-behind.avif", good + _box(b"free", b"II*\0\xff\xff\xff\xff" * 9)
    size = good.index(b"ispe") + 8
    large = photo("AVIF").replace(good[size : size + 8], struct.pack(">II", 1, 1))
    yield "smaller-than-its-stream.avif", large
    yield "brand-of-nobody.avif", good.replace(b"ftypavif", b"ftypnone").replace(b"avif", b"none")
    yield "no-brands-but-heif.avif", _box(b"ftyp", b"mif1\0\0\0\0mif1miafmiafmiaf") + good[32:]


def tiffs() -> Iterator[tuple[str, bytes]]:
    grey = bytes(range(16))
    yield "sides-of-4-billion.tiff", tiff(*layout(2**32 - 1, 2**32 - 1, 16), body=grey)
    yield "one-by-65535.tiff", tiff(*layout(1, 65_535, 16), body=grey)
    yield "zero-wide.tiff", tiff(*layout(0, 4, 16), body=grey)
    yield "no-tags.tiff", tiff()
    yield "no-pixels.tiff", tiff(*(entry for entry in layout(4, 4, 16) if entry[0] not in (273, 279)), body=grey)
    yield "strip-outside.tiff", tiff(*layout(4, 4, 16, (273, 4, 1, 10**6)), body=grey)
    yield "strip-of-4-gigabytes.tiff", tiff(*layout(4, 4, 2**32 - 1), body=grey)
    yield "strip-too-short.tiff", tiff(*layout(1024, 1024, 16), body=grey)
    yield "width-twice.tiff", tiff(*layout(4, 4, 16), (256, 4, 1, 9000), body=grey)
    yield "page-that-is-itself.tiff", tiff(*layout(4, 4, 16), following=24, body=grey)
    yield "page-outside.tiff", tiff(*layout(4, 4, 16), following=2**31, body=grey)
    yield "bits-of-33.tiff", tiff(*layout(4, 4, 16, (258, 3, 1, 33)), body=grey)
    yield "samples-of-floats.tiff", tiff(*layout(2, 2, 16, (258, 3, 1, 32), (339, 3, 1, 3)), body=grey)
    yield "compression-65000.tiff", tiff(*layout(4, 4, 16, (259, 3, 1, 65_000)), body=grey)
    yield "lzw-of-garbage.tiff", tiff(*layout(4, 4, 16, (259, 3, 1, 5)), body=grey)
    yield "deflate-of-garbage.tiff", tiff(*layout(4, 4, 16, (259, 3, 1, 8)), body=grey)
    yield "jpeg-of-garbage.tiff", tiff(*layout(4, 4, 16, (259, 3, 1, 7)), body=grey)
    yield "fax-of-garbage.tiff", tiff(*layout(4, 4, 16, (259, 3, 1, 4), (258, 3, 1, 1)), body=grey)
    yield "tile-2-to-the-31.tiff", tiff(*layout(4, 4, 16), *((tag, 4, 1, 2**31) for tag in (322, 323)), body=grey)
    yield "hundred-channels.tiff", tiff(*layout(4, 4, 16, (277, 3, 1, 100)), body=grey)
    yield "sixteen-bits-too-short.tiff", tiff(*layout(4, 4, 16, (258, 3, 1, 16)), body=grey)
    yield (
        "sixteen-bits-planar.tiff",
        tiff(*layout(2, 2, 16, (258, 3, 1, 16), (262, 3, 1, 2), (277, 3, 1, 3), (284, 3, 1, 2)), body=grey),
    )
    yield (
        "values-overlap.tiff",
        tiff(*layout(4, 4, 16), *((60_000 + n, 7, 2**16, 8) for n in range(900)), body=(grey + bytes(2**16))),
    )
    yield "directory-of-65535.tiff", b"II*\0\x08\0\0\0\xff\xff" + bytes(65_535 * 12)
    yield "count-of-4-billion.tiff", tiff(*layout(4, 4, 16), (700, 4, 2**32 - 1, 8), body=grey)
    yield "exif-that-is-the-file.tiff", tiff(*layout(4, 4, 16), (0x8769, 4, 1, 24), body=grey)
    yield "big-endian-in-little.tiff", b"II*\0" + tiff(*layout(4, 4, 16), order=">", body=grey)[4:]
    yield "bigtiff.tiff", b"II+\0\x08\0\0\0" + bytes(100)
    yield from _tiffs_of_odd_layout()


def _tiffs_of_odd_layout() -> Iterator[tuple[str, bytes]]:
    grey = bytes(range(16))
    tile = zlib.compress(bytes(2**24), 9)
    for name, side in (("tile-of-16384", 16_384), ("tile-of-4096", 4096)):
        tiled = (322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 8), (325, 4, 1, len(tile))
        entries = [entry for entry in layout(16, 16, 0, (259, 3, 1, 8)) if entry[0] not in (273, 278, 279)]
        yield f"{name}-in-16.tiff", tiff(*entries, *tiled, body=tile)
    many = 200_000
    places = struct.pack("<I", 8) * many + struct.pack("<I", 4) * many
    strips = (273, 4, many, 24), (279, 4, many, 24 + 4 * many), (278, 4, 1, 1)
    entries = [entry for entry in layout(4, 4, 16) if entry[0] not in (273, 278, 279)]
    yield "strips-beyond-the-image.tiff", tiff(*entries, *strips, body=grey + places)
    overlapping = (273, 4, many, 24), (279, 4, many, 24 + 4 * many), (278, 4, 1, 1)
    tall = [entry for entry in layout(4, 16_000, 16) if entry[0] not in (273, 278, 279)]
    yield "strips-that-overlap.tiff", tiff(*tall, *overlapping, body=grey + struct.pack("<I", 200) * 2 * many)
    yield "strips-and-tiles.tiff", tiff(*layout(4, 4, 16), (322, 4, 1, 16), (323, 4, 1, 16), (324, 4, 1, 8), body=grey)
    yield "digital-negative.tiff", tiff(*layout(4, 4, 16), (50_706, 1, 4, 0x401), body=grey)
    yield "filter-array.tiff", tiff(*layout(4, 4, 16, (262, 3, 1, 32_803)), body=grey)
    yield "copy-of-nothing.tiff", tiff(*layout(4, 4, 16), (254, 4, 1, 1), (330, 4, 1, 2**31), body=grey)
    yield "below-itself.tiff", tiff(*layout(4, 4, 16), (254, 4, 1, 1), (330, 4, 1, 24), body=grey)
