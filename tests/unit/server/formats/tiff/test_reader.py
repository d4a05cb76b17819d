"""Tests of TIFF, made by OpenCV, by Pillow and by hand."""

import io
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest

from server.errors import UndecodableImage, UnsupportedImage
from server.formats import codec, tiff
from server.formats.base import Planes
from server.imaging.tiff_directory import Entry, integer_entry, write

MOST = 10**6
RNG = np.random.default_rng(0)


def decode(data: bytes) -> Planes:
    return tiff.decode(data, tiff.read_header(data, MOST))


def by_hand(samples: np.ndarray, order: str = "<", **changes: int | tuple[int, ...] | None) -> bytes:
    """Build a TIFF of one strip or tile from (H, W, C) samples; changed tags are named by their numbers after `t`."""
    height, width, channels = samples.shape
    body = zlib.compress(samples.astype(samples.dtype.newbyteorder(order)).tobytes())
    tags: dict[int, int | tuple[int, ...] | None] = {
        256: width,
        257: height,
        258: (samples.dtype.itemsize * 8,) * channels,
    }
    tags |= {259: 8, 262: 2 if channels > 2 else 1, 273: 8, 277: channels, 278: height, 279: len(body)}
    if channels in (2, 4):
        tags[338] = 2
    tags |= {int(name[1:]): value for name, value in changes.items()}
    body += b"\0" * (len(body) % 2)
    entries: list[Entry] = []
    for tag, value in tags.items():
        if value is not None:
            values = value if isinstance(value, tuple) else (value,)
            entries.append(integer_entry(order, tag, 3 if max(values) < 2**16 else 4, *values))
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}I", 8 + len(body)) + body + write(order, entries, 8 + len(body))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    "compression",
    [
        cv2.IMWRITE_TIFF_COMPRESSION_NONE,
        cv2.IMWRITE_TIFF_COMPRESSION_LZW,
        cv2.IMWRITE_TIFF_COMPRESSION_ADOBE_DEFLATE,
        cv2.IMWRITE_TIFF_COMPRESSION_PACKBITS,
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_opencv_writes_is_read_in_full(channels: int, compression: int, dtype: type) -> None:
    samples = RNG.integers(0, np.iinfo(dtype).max, (37, 53, channels)).astype(dtype)
    done, data = cv2.imencode(".tif", samples, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    assert done
    planes = decode(data.tobytes())
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0]}[channels]
    for plane, channel in zip(planes.colour, order, strict=True):
        np.testing.assert_array_equal(plane, samples[:, :, channel])
    assert (planes.alpha is None) == (channels < 4)
    if planes.alpha is not None:
        np.testing.assert_array_equal(planes.alpha, samples[:, :, 3])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_both_byte_orders_and_grey_with_alpha_are_read(order: str, channels: int, dtype: type) -> None:
    samples = RNG.integers(0, np.iinfo(dtype).max, (5, 7, channels)).astype(dtype)
    planes = decode(by_hand(samples, order))
    found = [*planes.colour, *([] if planes.alpha is None else [planes.alpha])]
    np.testing.assert_array_equal(np.dstack(found), samples)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_samples_are_inverted_if_white_is_zero(dtype: type) -> None:
    samples = RNG.integers(0, np.iinfo(dtype).max, (5, 7, 1)).astype(dtype)
    np.testing.assert_array_equal(decode(by_hand(samples, t262=0)).colour[0], np.invert(samples[:, :, 0]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_premultiplied_colours_are_divided_by_the_alpha(dtype: type) -> None:
    full = np.iinfo(dtype).max
    pixel = np.array([full // 4, full // 8, 0, full // 2], dtype)
    planes = decode(by_hand(np.tile(pixel, (3, 3, 1)), t338=1))
    np.testing.assert_allclose([plane[1, 1] / full for plane in planes.colour], [0.5, 0.25, 0], atol=1 / 128)
    assert planes.alpha is not None
    assert planes.alpha[1, 1] == full // 2


def separate(samples: np.ndarray, compression: int = 8, **changes: int | tuple[int, ...] | None) -> bytes:
    """Build a TIFF whose channels are separate planes, each of two strips."""
    height = samples.shape[0] // 2
    halves = [samples[top : top + height, :, number] for number in range(samples.shape[2]) for top in (0, height)]
    strips = [zlib.compress(half.tobytes()) if compression == 8 else half.tobytes() for half in halves]
    at = len(by_hand(samples, t284=2)) + 4096  # behind everything else
    offsets = tuple(at + sum(map(len, strips[:number])) for number in range(len(strips)))
    sizes = tuple(map(len, strips))
    tags = {"t259": compression, "t273": offsets, "t278": height, "t279": sizes, "t284": 2}
    return by_hand(samples, **{**tags, **changes}).ljust(at, b"\0") + b"".join(strips)


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_separate_planes_are_read(channels: int, dtype: type, compression: int) -> None:
    samples = RNG.integers(0, np.iinfo(dtype).max, (6, 7, channels)).astype(dtype)
    planes = decode(separate(samples, compression))
    assert (planes.alpha is None) == (channels == 3)
    np.testing.assert_array_equal(np.dstack(planes.all), samples)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_separate_planes_may_be_premultiplied_or_have_channels_that_are_ignored(dtype: type) -> None:
    full = np.iinfo(dtype).max
    samples = np.tile(np.array([full // 4, full // 8, 0, full // 2], dtype), (4, 4, 1))
    planes = decode(separate(samples, t338=1))
    np.testing.assert_allclose([plane[1, 1] / full for plane in planes.colour], [0.5, 0.25, 0], atol=1 / 128)
    planes = decode(separate(samples, 1, t338=0))
    assert planes.alpha is None
    np.testing.assert_array_equal(np.dstack(planes.colour), samples[:, :, :3])


def test_separate_inks_are_converted_as_interleaved_ones_are() -> None:
    inks = RNG.integers(0, 256, (6, 7, 4), dtype=np.uint8)
    whole = decode(by_hand(inks, t262=5, t338=None))
    np.testing.assert_array_equal(decode(separate(inks, t262=5, t338=None)).colour, whole.colour)


@pytest.mark.parametrize(
    ("channels", "changes", "named"),
    [
        (5, {"t262": 5, "t338": 2}, "CMYK with alpha"),
        (2, {"t262": 0}, "pixels of this kind"),
        (3, {"t258": (4, 4, 4)}, "pixels of this kind"),
    ],
)
def test_kinds_of_pixels_that_are_not_read_are_not_called_damaged(
    channels: int, changes: dict[str, int], named: str
) -> None:
    with pytest.raises(UnsupportedImage, match=named):
        decode(by_hand(np.zeros((4, 4, channels), np.uint8), **changes))


def test_the_predictor_of_sixteen_bits_starts_anew_in_each_tile() -> None:
    samples = RNG.integers(0, 65_536, (16, 48, 3)).astype(np.uint16)
    tiles = [samples[:, left : left + 16] for left in (0, 16, 32)]
    packed = []
    for tile in tiles:
        differences = tile.copy()
        differences[:, 1:] -= tile[:, :-1]
        packed.append(zlib.compress(differences.astype("<u2").tobytes()))
    offsets = tuple(8 + sum(map(len, packed[:number])) for number in range(3))
    body = b"".join(packed) + b"\0" * (sum(map(len, packed)) % 2)
    tags = {256: 48, 257: 16, 258: (16, 16, 16), 259: 8, 262: 2, 277: 3, 317: 2, 322: 16, 323: 16, 324: offsets}
    tags[325] = tuple(map(len, packed))
    entries = [
        integer_entry("<", tag, 4, *(value if isinstance(value, tuple) else (value,))) for tag, value in tags.items()
    ]
    data = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + write("<", entries, 8 + len(body))
    np.testing.assert_array_equal(np.dstack(decode(data).colour), samples)


def test_the_limit_of_pillow_does_not_apply_to_the_bytes_of_sixteen_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 60)  # Pillow refuses twice as many, and sees six for each pixel
    codec.silence_decoder_messages()
    samples = RNG.integers(0, 65_536, (5, 8, 3)).astype(np.uint16)
    np.testing.assert_array_equal(np.dstack(decode(by_hand(samples)).colour), samples)


def test_more_than_one_page_is_counted() -> None:
    pages = [PIL.Image.new("L", (4, 4), shade) for shade in (1, 2)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    assert tiff.read_header(file.getvalue(), MOST).frames == 2


@pytest.mark.parametrize("changes", [{"t259": 7}, {"t317": 3}, {"t339": 3}, {"t262": 6}])
def test_other_layouts_of_sixteen_bits_are_refused_before_decoding(changes: dict[str, int]) -> None:
    with pytest.raises(UnsupportedImage):
        tiff.read_header(by_hand(np.zeros((4, 4, 3), np.uint16), **changes), MOST)


def test_a_strip_that_inflates_to_too_few_bytes_is_undecodable() -> None:
    data = by_hand(np.zeros((4, 4, 3), np.uint16), t257=5, t278=5)
    with pytest.raises(UndecodableImage):
        decode(data)


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_in_a_tiff_is_read_unless_it_has_many_scans(progressive: bool) -> None:
    grey = PIL.Image.fromarray(RNG.integers(0, 256, (16, 16), dtype=np.uint8))
    file = io.BytesIO()
    grey.save(file, "JPEG", progressive=progressive, quality=90)
    start = file.getvalue().index(b"\xff\xda")
    scans = file.getvalue()[start:-2]
    for count, is_read in ((1, True), (50, False)):
        strip = file.getvalue()[:start] + scans * count + b"\xff\xd9"
        body = strip + bytes(len(strip) % 2)
        tags = {256: 16, 257: 16, 258: 8, 259: 7, 262: 1, 273: 8, 277: 1, 278: 16, 279: len(strip)}
        entries = [integer_entry("<", tag, 4, value) for tag, value in tags.items()]
        data = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + write("<", entries, 8 + len(body))
        if is_read:
            expected = np.asarray(PIL.Image.open(io.BytesIO(file.getvalue())))
            assert np.abs(decode(data).colour[0].astype(int) - expected).max() <= 2
        else:
            with pytest.raises(UnsupportedImage, match="scans"):
                decode(data)
