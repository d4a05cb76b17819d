"""Tests of BMP, written by Pillow, by OpenCV and by hand."""

import io
import struct

import cv2
import numpy as np
import PIL.Image
import pytest

from server.errors import ImageTooLarge, UndecodableImage, UnsupportedImage
from server.formats import bmp
from server.formats.base import Planes
from server.imaging.metadata import Metadata

MOST = 10**6
NOISE = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)


@pytest.mark.parametrize(("mode", "planes"), [("1", 1), ("L", 1), ("P", 3), ("RGB", 3)])
def test_every_kind_that_pillow_writes_is_read_as_it_reads_it(mode: str, planes: int) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(NOISE).convert("RGB").convert(mode).save(file, "BMP")
    header = bmp.read_header(file.getvalue(), MOST)
    found = bmp.decode(file.getvalue(), header)
    assert (header.width, header.height, len(found.colour)) == (7, 5, planes)
    expected = np.asarray(PIL.Image.open(io.BytesIO(file.getvalue())).convert("L" if planes == 1 else "RGB"))
    np.testing.assert_array_equal(np.squeeze(np.dstack(found.colour)), expected)
    assert found.alpha is None


def test_alpha_that_the_header_announces_is_read() -> None:
    data = cv2.imencode(".bmp", NOISE)[1].tobytes()
    header = bmp.read_header(data, MOST)
    found = bmp.decode(data, header)
    assert header.has_alpha
    assert found.alpha is not None
    np.testing.assert_array_equal(np.dstack((*found.colour, found.alpha)), NOISE[:, :, [2, 1, 0, 3]])


def test_rows_stored_top_down_are_not_flipped() -> None:
    rows = bytes(range(24))  # two rows of four pixels, blue first
    data = b"BM" + struct.pack("<IHHI", 54 + 24, 0, 0, 54)
    data += struct.pack("<IiiHHIIiiII", 40, 4, -2, 1, 24, 0, 24, 0, 0, 0, 0) + rows
    found = bmp.decode(data, bmp.read_header(data, MOST))
    assert [plane[0, 0] for plane in found.colour] == [2, 1, 0]


def palette_file(header: int, bits: int, offset: int | None = None) -> tuple[bytes, np.ndarray]:
    """Build a BMP of two rows, with a palette up to 8 bits, and return it with its colours; `offset` is what it states.

    A header of 12 bytes has sides of 16 bits and colours of 3 bytes.
    """
    colours = NOISE[0, :2, :3]
    indices = np.array([[0, 1, 1], [1, 0, 0]])
    pixels = [row.tobytes() for row in colours[indices]]
    if bits <= 8:
        bases = bits * np.arange(2, -1, -1)
        pixels = [int((row << bases).sum() << (-3 * bits % 8)).to_bytes(-(-3 * bits // 8), "big") for row in indices]
    rows = b"".join(row + bytes(-len(row) % 4) for row in reversed(pixels))
    unused = b"" if header == 12 else b"\0"
    palette = b"".join(colour.tobytes() + unused for colour in colours) if bits <= 8 else b""
    head = struct.pack("<IHHHH", 12, 3, 2, 1, bits)
    if header != 12:
        head = struct.pack("<IiiHHIIiiII", header, 3, 2, 1, bits, 0, 0, 0, 0, 2, 0).ljust(header, b"\0")
    else:
        palette = palette.ljust(3 << bits if bits <= 8 else 0, b"\0")
    stated = 14 + len(head) + len(palette) if offset is None else offset
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, stated) + head + palette + rows, colours[indices][:, :, ::-1]


@pytest.mark.parametrize("bits", [1, 4, 8, 24])
def test_colours_with_the_oldest_header_are_not_read_as_grey(bits: int) -> None:
    data, expected = palette_file(12, bits)
    np.testing.assert_array_equal(np.dstack(read(data).colour), expected)


@pytest.mark.parametrize(
    ("header", "bits", "offset"), [(40, 24, 0), (40, 8, 0), (124, 1, 0), (12, 24, 0), (108, 8, 14 + 108)]
)
def test_pixels_are_found_without_their_offset_and_with_that_of_the_palette(
    header: int, bits: int, offset: int
) -> None:
    data, expected = palette_file(header, bits, offset)
    np.testing.assert_array_equal(np.dstack(read(data).colour), expected)


@pytest.mark.parametrize(
    ("bits", "kind", "named"), [(0, 4, "holds a JPEG"), (0, 5, "holds a PNG"), (2, 0, "2 bits"), (64, 0, "64 bits")]
)
def test_kinds_that_are_not_read_are_named(bits: int, kind: int, named: str) -> None:
    data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 54)
    data += struct.pack("<IiiHHIIiiII", 40, 4, 4, 1, bits, kind, 0, 0, 0, 0, 0) + bytes(64)
    with pytest.raises(UnsupportedImage, match=named):
        bmp.read_header(data, MOST)


def by_hand(
    words: np.ndarray, kind: int = 0, masks: tuple[int, ...] = (), header: int = 40, top_down: bool = False
) -> bytes:
    """Build a BMP of (H, W) words of 16 or 32 bits, with its masks inside or after a header of some length."""
    height, width = words.shape
    bits = words.dtype.itemsize * 8
    rows = b"".join(row.tobytes().ljust(-(-width * bits // 32) * 4, b"\0") for row in words[:: 1 if top_down else -1])
    fixed = struct.pack(
        "<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, kind, len(rows), 0, 0, 0, 0
    )
    head = (fixed + struct.pack(f"<{len(masks)}I", *masks)).ljust(header, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(rows), 0, 0, 14 + len(head)) + head + rows


def read(data: bytes) -> Planes:
    return bmp.decode(data, bmp.read_header(data, MOST))


FIELDS = {
    "5-5-5 by itself": (np.uint16, 0, (0x7C00, 0x3E0, 0x1F)),
    "5-5-5": (np.uint16, 3, (0x7C00, 0x3E0, 0x1F)),
    "5-6-5": (np.uint16, 3, (0xF800, 0x7E0, 0x1F)),
    "4-4-4": (np.uint16, 3, (0xF00, 0xF0, 0xF)),
    "1-5-5-5": (np.uint16, 3, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "4-4-4-4": (np.uint16, 6, (0xF00, 0xF0, 0xF, 0xF000)),
    "8-8-8 by itself": (np.uint32, 0, (0xFF0000, 0xFF00, 0xFF)),
    "8-8-8-8": (np.uint32, 3, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "red last": (np.uint32, 3, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    "10-10-10-2": (np.uint32, 3, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
}


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("name", FIELDS)
def test_fields_of_any_width_are_scaled_to_the_full_range(name: str, top_down: bool) -> None:
    dtype, kind, masks = FIELDS[name]
    words = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (5, 7), dtype, endpoint=True)
    words[0, 0] = np.iinfo(dtype).max
    header = 40 if kind != 3 or len(masks) == 3 else 124
    data = by_hand(words, kind, masks if kind else (), header, top_down)
    found = read(data)
    planes = [*found.colour, *([] if found.alpha is None else [found.alpha])]
    assert len(planes) == len(masks)
    full = 65_535 if name.startswith("10") else 255
    for plane, mask in zip(planes, masks, strict=True):
        values = (words & dtype(mask)) // (mask & -mask)
        np.testing.assert_array_equal(plane, np.rint(values * (full / (mask // (mask & -mask)))))
        assert plane[0, 0] == full


def test_what_is_read_of_five_and_six_bits_is_what_pillow_reads() -> None:
    words = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    data = by_hand(words, 3, (0xF800, 0x7E0, 0x1F))
    expected = np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(np.dstack(read(data).colour) - expected).max() <= 1  # which truncates where this rounds


def test_alpha_is_ignored_only_if_it_is_zero_everywhere() -> None:
    words = np.full((4, 4), 0x00C04020, np.uint32)
    masks = FIELDS["8-8-8-8"][2]
    found = read(by_hand(words, 3, masks, 124))
    assert found.alpha is None
    assert [int(plane[0, 0]) for plane in found.colour] == [0xC0, 0x40, 0x20]
    words[1, 2] |= 0x01000000
    alpha = read(by_hand(words, 3, masks, 124)).alpha
    assert alpha is not None
    assert alpha.sum() == 1


@pytest.mark.parametrize(
    "masks", [(0, 0x3E0, 0x1F), (0xF800, 0xFE0, 0x1F), (0xA000, 0x3E0, 0x1F), (0x1F0000, 0x3E0, 0x1F)]
)
def test_invalid_masks_are_refused_and_named(masks: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedImage, match=hex(masks[1])):
        bmp.read_header(by_hand(np.zeros((2, 2), np.uint16), 3, masks), MOST)


def test_words_that_are_cut_off_are_said_and_the_filling_behind_the_last_row_is_not_missed() -> None:
    data = by_hand(np.full((3, 3), 0x7FFF, np.uint16))
    assert read(data[:-2]).colour[0].min() == 255
    with pytest.raises(UndecodableImage, match="21 of 22"):
        read(data[:-3])


def version_5(space: bytes, profile: bytes = b"", corners: tuple[int, ...] = (0,) * 9, gamma: int = 0) -> bytes:
    """Build a BMP whose 124-byte header describes its colours."""
    data = bytearray(by_hand(np.zeros((4, 4), np.uint32), header=124))
    data[14 + 56 : 14 + 60] = space
    struct.pack_into("<9i3I", data, 14 + 60, *corners, gamma, gamma, gamma)
    struct.pack_into("<II", data, 14 + 112, len(data) - 14, len(profile))
    return bytes(data) + profile


def test_a_profile_that_is_embedded_is_read_and_held_against_the_limit() -> None:
    assert bmp.read_header(version_5(b"DEBM", b"a profile"), MOST).metadata.icc_profile == b"a profile"
    assert bmp.read_header(version_5(b"BGRs", b"none"), MOST).metadata == Metadata()
    with pytest.raises(ImageTooLarge, match="colour profile"):
        bmp.read_header(version_5(b"DEBM", bytes(100)), 99)


def test_corners_and_gamma_become_the_words_of_png() -> None:
    # Display P3: XYZ of red, green and blue in 2.30 fixed point, and a gamma of 1.8.
    xyz = (0.4866, 0.2290, 0.0, 0.2657, 0.6917, 0.0451, 0.1982, 0.0793, 1.0439)
    corners = tuple(round(value * 2**30) for value in xyz)
    words = dict(
        bmp.read_header(version_5(bytes(4), corners=corners, gamma=round(1.8 * 65_536)), MOST).metadata.colour_chunks
    )
    assert abs(struct.unpack(">I", words[b"gAMA"])[0] - 55_556) <= 1
    np.testing.assert_allclose(
        struct.unpack(">8I", words[b"cHRM"]), (31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000), atol=50
    )


@pytest.mark.parametrize(("corners", "gamma"), [((0,) * 9, 0), ((0,) * 9, 65_536), ((1,) * 9, 65_536), ((-5,) * 9, 1)])
def test_corners_that_span_nothing_say_nothing(corners: tuple[int, ...], gamma: int) -> None:
    assert bmp.read_header(version_5(bytes(4), corners=corners, gamma=gamma), MOST).metadata == Metadata()
