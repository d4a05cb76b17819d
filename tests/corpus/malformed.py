"""Generated hostile and broken image files; `python malformed.py FOLDER` writes them."""

import io
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import PIL.Image
from image_files import SIGNATURE, chunk, exif_of_overlapping_tags, photo, png, tiff
from malformed_boxes import avifs, tiffs


def corpus() -> dict[str, bytes]:
    """Generate every file, keyed by a name that describes its defect."""
    files: dict[str, bytes] = {}
    for make in (_cut_files, _pngs, _png_bombs, _jpegs, _jpeg_scans, _webps, tiffs, avifs, _others):
        for name, data in make():
            assert name not in files, name
            files[name] = data
    return files


def _cut_files() -> Iterator[tuple[str, bytes]]:
    whole = {
        "png": (photo("PNG"), (7, 8, 11, 16, 20, 29, 33, 41, 60, -12, -5)),
        "jpeg": (photo("JPEG"), (2, 3, 4, 12, 20, 22, 60, 160, 180, 330, 620, -200)),
        "webp": (photo("WEBP"), (11, 12, 16, 20, 24, 30, -50)),
        "tiff": (photo("TIFF"), (3, 4, 7, 8, 9, 12, 100, -20)),
        "bmp": (photo("BMP"), (2, 10, 14, 18, 26, 40, 54, -20)),
        "avif": (photo("AVIF"), (11, 12, 20, 32, 40, 100, 200, 280, -20)),
    }
    for kind, (data, places) in whole.items():
        for place in places:
            yield f"cut-at-{place}.{kind}", data[:place]


def _pngs() -> Iterator[tuple[str, bytes]]:
    rows = bytes((1 + 3 * 4) * 4)
    good = png(4, 4, rows)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(rows))
    end = chunk(b"IEND", b"")
    yield "wrong-header-crc.png", SIGNATURE + chunk(b"IHDR", header[8:21], 1) + pixels + end
    yield "wrong-pixel-crc.png", SIGNATURE + header + chunk(b"IDAT", zlib.compress(rows), 1) + end
    yield "no-pixels.png", SIGNATURE + header + end
    yield "no-header.png", SIGNATURE + pixels + end
    yield (
        "two-headers.png",
        SIGNATURE + header + chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)) + (pixels + end),
    )
    yield "second-header-first-pixels.png", SIGNATURE + header + pixels + header + pixels + end
    yield "zero-wide.png", png(0, 4, rows)
    yield "two-billion-high.png", png(1, 2**31 - 1, rows)
    yield "one-by-65535.png", png(1, 65_535, bytes(4 * 65_535))
    yield "depth-3.png", png(4, 4, rows, depth=3)
    yield "colour-type-5.png", png(4, 4, rows, colour=5)
    yield "too-few-pixels.png", png(64, 64, rows)
    yield "too-many-pixels.png", png(4, 4, rows * 100_000)
    yield "palette-missing.png", png(4, 4, bytes(20), colour=3)
    yield "palette-of-7-bytes.png", png(4, 4, bytes(20), chunk(b"PLTE", bytes(7)), colour=3)
    yield "palette-too-short.png", png(4, 4, b"\0\xff\xff\xff\xff" * 4, chunk(b"PLTE", bytes(3)), colour=3)
    yield "transparency-too-long.png", png(4, 4, rows, chunk(b"tRNS", bytes(300)))
    yield "transparency-empty.png", png(4, 4, bytes(20), chunk(b"tRNS", b""), colour=0)
    yield "filter-99.png", png(4, 4, b"\x63" + rows[1:])
    yield "chunk-longer-than-file.png", good.replace(b"\0\0\0\x0dIHDR", b"\x7f\xff\xff\xffIHDR")
    yield "million-chunks.png", SIGNATURE + header + chunk(b"tEXt", b"") * 1_000_000 + pixels + end
    yield "frames-of-apng.png", png(4, 4, rows, chunk(b"acTL", struct.pack(">II", 2**31, 0)))
    yield "zero-frames-of-apng.png", png(4, 4, rows, chunk(b"acTL", bytes(8)))
    yield "huge-exif.png", png(4, 4, rows, chunk(b"eXIf", b"II*\0\x08\0\0\0" + bytes(8 * 2**20)))
    yield "overlapping-exif.png", png(4, 4, rows, chunk(b"eXIf", exif_of_overlapping_tags()))
    yield "exif-that-points-to-itself.png", png(4, 4, rows, chunk(b"eXIf", tiff((0x8769, 4, 1, 8), following=8)))
    yield "exif-that-points-outside.png", png(4, 4, rows, chunk(b"eXIf", tiff((0x8769, 4, 1, 10**6))))
    yield "profile-of-noise.png", png(4, 4, rows, chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(range(256)) * 4)))
    yield "profile-that-holds-itself.png", png(4, 4, rows, chunk(b"iCCP", b"icc\0\0" + zlib.compress(_recursive_icc())))


def _png_bombs() -> Iterator[tuple[str, bytes]]:
    rows = bytes((1 + 3 * 4) * 4)
    squeezer = zlib.compressobj(9)
    flat = b"".join(squeezer.compress(bytes(1_000_000)) for _ in range(200)) + squeezer.flush()
    yield (
        "bomb-40000x40000.png",
        SIGNATURE
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0))
        + (chunk(b"IDAT", flat) + chunk(b"IEND", b"")),
    )
    yield "bomb-in-text.png", png(4, 4, rows, chunk(b"zTXt", b"Comment\0\0" + flat))
    yield "bombs-in-texts.png", png(4, 4, rows, *[chunk(b"zTXt", b"Comment\0\0" + flat)] * 20)
    yield "bomb-in-profile.png", png(4, 4, rows, chunk(b"iCCP", b"icc\0\0" + flat))
    yield "bomb-in-xmp.png", png(4, 4, rows, chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + flat))
    yield "bomb-in-pixels.png", SIGNATURE + png(4, 4, rows)[8:33] + chunk(b"IDAT", flat) + chunk(b"IEND", b"")


def _recursive_icc() -> bytes:
    # A multi-process A2B0 tag whose only element is the tag itself.
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, 200)
    body = b"mpet" + bytes(4) + struct.pack(">HHI", 3, 3, 1) + struct.pack(">II", 0, 200)
    head = struct.pack(">I4sI4s4s4s", 344, b"lcms", 0x04400000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    return (head.ljust(128, b"\0") + tags + body).ljust(344, b"\0")


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _jpegs() -> Iterator[tuple[str, bytes]]:
    good = photo("JPEG")
    frame = good.index(b"\xff\xc0")
    scan = good.index(b"\xff\xda")
    sized: Callable[[int, int], bytes] = lambda h, w: good[: frame + 5] + struct.pack(">HH", h, w) + good[frame + 9 :]  # noqa: E731
    yield "65535x65535.jpeg", sized(65_535, 65_535)
    yield "one-by-65535.jpeg", sized(65_535, 1)
    yield "zero-high.jpeg", sized(0, 32)
    yield "larger-than-its-data.jpeg", sized(1024, 1024)
    yield "smaller-than-its-data.jpeg", sized(8, 8)
    yield "two-frames.jpeg", good[:frame] + sized(9000, 9000)[frame : frame + 19] + good[frame:]
    yield "second-frame-after-scan.jpeg", good[:-2] + sized(60_000, 60_000)[frame : frame + 19] + good[scan:]
    yield "no-tables.jpeg", good[:2] + good[frame:]
    yield "twelve-bits.jpeg", good[: frame + 4] + b"\x0c" + good[frame + 5 :]
    yield "five-components.jpeg", good[: frame + 9] + b"\x05" + good[frame + 10 :]
    yield "component-samples-0x0.jpeg", good[: frame + 11] + b"\0" + good[frame + 12 :]
    yield "lossless.jpeg", good[:frame] + b"\xff\xc3" + good[frame + 2 :]
    yield "million-segments.jpeg", good[:2] + _segment(0xE5, b"") * 1_000_000 + good[2:]
    yield "fill-bytes.jpeg", good[:2] + b"\xff" * 4_000_000 + good[2:]
    yield "garbage-after-start.jpeg", good[:3] + bytes(1000) + good[3:]
    yield "segment-of-length-1.jpeg", good[:2] + b"\xff\xe1\0\x01" + good[2:]
    exif = b"Exif\0\0" + exif_of_overlapping_tags()
    yield "overlapping-exif.jpeg", good[:2] + _segment(0xE1, exif[:65_000]) + good[2:]
    yield "exif-of-noise.jpeg", good[:2] + _segment(0xE1, b"Exif\0\0" + bytes(range(256)) * 200) + good[2:]
    pieces = b"".join(_segment(0xE2, b"ICC_PROFILE\0" + bytes((n, 200)) + bytes(65_000)) for n in range(1, 201))
    yield "profile-of-13-megabytes.jpeg", good[:2] + pieces + good[2:]
    yield "profile-piece-0-of-0.jpeg", good[:2] + _segment(0xE2, b"ICC_PROFILE\0\0\0" + bytes(200)) + good[2:]
    progressive = photo("JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    yield "ten-thousand-scans.jpeg", progressive[:-2] + progressive[last:-2] * 10_000 + b"\xff\xd9"
    yield "cmyk-cut.jpeg", photo("JPEG", "CMYK")[:-200]
    yield "cmyk-with-broken-profile.jpeg", photo("JPEG", "CMYK", icc_profile=_recursive_icc().replace(b"RGB ", b"CMYK"))


def _progressive(width: int, height: int) -> tuple[bytes, bytes]:
    # A flat grey picture up to its first scan of all coefficients, and a scan that refines nothing.
    tables = _segment(0xDB, b"\0" + b"\1" * 64) + _segment(
        0xC2, struct.pack(">BHHB3s", 8, height, width, 1, b"\1\x11\0")
    )
    codes = _segment(0xC4, b"\0\1" + bytes(16)) + _segment(0xC4, b"\x10\1\1" + bytes(14) + b"\xe0\0")
    blocks = -(-width // 8) * -(-height // 8)
    first = _segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-blocks // 8))
    runs = "0" + "0" * 14
    bits = runs * -(-blocks // 16384)
    bits += "1" * (-len(bits) % 8)
    coded = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    scan = _segment(0xDA, b"\1\1\0\1\x3f\x01") + coded
    return b"\xff\xd8" + tables + codes + first, scan


def _jpeg_scans() -> Iterator[tuple[str, bytes]]:
    good = photo("JPEG")
    head, scan = _progressive(2048, 2048)
    for name, lone in (("tem", b"\xff\1"), ("restart", b"\xff\xd3"), ("fill", b"\xff\xff\xff")):
        hidden = b"".join(lone + (scan * 400).ljust(65_498, b"\0") for _ in range(8))
        yield f"three-thousand-scans-behind-{name}.jpeg", head + hidden + b"\xff\xd9"
    head, scan = _progressive(7000, 7000)
    yield "thirty-scans-of-49-megapixels.jpeg", head + scan * 30 + b"\xff\xd9"
    tiny = _segment(0xEB, _segment(0xC0, struct.pack(">BHHB3s", 8, 1, 1, 1, b"\1\x11\0")))
    yield "another-size-behind-tem.jpeg", good[:2] + b"\xff\1\0\6" + tiny + good[2:]
    yield "another-size-behind-restart.jpeg", good[:2] + b"\xff\xd0\0\6" + tiny + good[2:]
    yield "megabytes-of-tem.jpeg", good[:2] + b"\xff\1" * 2_000_000 + good[2:]
    yield "megabytes-of-stuffed-bytes.jpeg", good[:-2] + b"\xff\0" * 2_000_000 + b"\xff\xd9"
    yield "no-end-marker.jpeg", good[:-2]
    yield "no-end-marker-and-a-trailer.jpeg", good[:-2] + b"SEFHj\0\0\0" * 99
    yield "ends-with-another-picture.jpeg", good[:-2] + good
    claims = b"http://ns.adobe.com/xap/1.0/\0<a xmlns:h='http://ns.adobe.com/hdr-gain-map/1.0/'" + b" h:a='1'" * 9
    yield "broken-claims.jpeg", good[:2] + _segment(0xE1, claims) + good[2:]


def _riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _extended_header(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    return b"VP8X", bytes((flags, 0, 0, 0)) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def _webps() -> Iterator[tuple[str, bytes]]:
    good = photo("WEBP")
    frame = (b"VP8 ", good[20:])
    yield "canvas-16384x16384.webp", _riff(_extended_header(2**14, 2**14), frame)
    yield "canvas-without-frame.webp", _riff(_extended_header(32, 32))
    yield "canvas-of-3-bytes.webp", _riff((b"VP8X", b"\0\0\0"), frame)
    yield "animation-of-0-frames.webp", _riff(_extended_header(32, 32, 2), (b"ANIM", bytes(6)))
    yield "animation-of-garbage.webp", _riff(_extended_header(32, 32, 2), (b"ANIM", bytes(6)), (b"ANMF", bytes(40)))
    yield "ten-thousand-chunks.webp", _riff(*[(b"JUNK", b"")] * 10_000, frame)
    yield "lossless-16384x16384.webp", _riff((b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(20)))
    yield "alpha-of-garbage.webp", _riff(_extended_header(32, 32, 0x10), (b"ALPH", b"\x01" + bytes(9)), frame)
    yield "huge-profile.webp", _riff(_extended_header(32, 32, 0x20), (b"ICCP", bytes(8 * 2**20)), frame)
    yield "overlapping-exif.webp", _riff(_extended_header(32, 32, 8), frame, (b"EXIF", exif_of_overlapping_tags()))
    yield "length-of-4-gigabytes.webp", good[:4] + b"\xff\xff\xff\xff" + good[8:]


def _others() -> Iterator[tuple[str, bytes]]:
    bmp = photo("BMP")
    avif = photo("AVIF")
    size = avif.index(b"ispe") + 8
    yield "sides-of-2-billion.bmp", bmp[:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + bmp[26:]
    yield "zero-wide.bmp", bmp[:18] + bytes(4) + bmp[22:]
    yield "height-of-minus-2-billion.bmp", bmp[:22] + struct.pack("<i", -(2**31)) + bmp[26:]
    yield "pixels-outside.bmp", bmp[:10] + struct.pack("<I", 2**31) + bmp[14:]
    yield "bits-of-7.bmp", bmp[:28] + struct.pack("<H", 7) + bmp[30:]
    for name, kind, masks in (
        ("no-masks", 3, (0, 0, 0)),
        ("masks-with-holes", 3, (0xF0F0, 0xA00, 0x5)),
        ("masks-that-overlap", 3, (0xFFFF, 0xFFFF, 0xFFFF)),
        ("masks-beyond-the-word", 6, (0xFFF00000, 0xF0000, 0x1F, 0)),
    ):
        fields = struct.pack("<HIIiiII", 16, kind, 0, 0, 0, 0, 0) + struct.pack(f"<{len(masks)}I", *masks)
        yield f"{name}.bmp", bmp[:28] + fields + bytes(4000)
    yield "words-cut-off.bmp", bmp[:28] + struct.pack("<H", 32) + bmp[30:]
    yield "runs-of-garbage.bmp", bmp[:28] + struct.pack("<HI", 8, 1) + bmp[34:]
    yield "sides-of-4-billion.avif", avif[:size] + b"\xff" * 8 + avif[size + 8 :]
    yield "larger-than-its-data.avif", avif[:size] + struct.pack(">II", 1024, 1024) + avif[size + 8 :]
    yield "no-boxes.avif", avif[:32] + bytes(300)
    yield "meta-of-4-gigabytes.avif", avif[:32] + b"\xff\xff\xff\xff" + avif[36:]
    yield "brand-only.heic", b"\0\0\0\x18ftypheic" + bytes(100)
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "green")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        yield f"two-frames.{kind.lower()}", file.getvalue()
    yield "text.jpg", b"This is no picture at all."
    yield "web-page.png", b"<!doctype html><title>404</title>"
    yield "picture-of-lines.svg", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"
    yield "archive.png", b"PK\3\4" + bytes(100)
    yield "png-called.jpg", photo("PNG")
    yield "jpeg-behind-a-png-signature.png", SIGNATURE + photo("JPEG")
    yield "empty.png", b""
    yield "one-byte.jpg", b"\xff"
    yield "zeros.bmp", bytes(1000)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in corpus().items():
        (folder / name).write_bytes(data)
