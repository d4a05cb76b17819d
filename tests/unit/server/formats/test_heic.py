"""Tests of HEIC."""

import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
import PIL.Image
import pillow_heif
import pytest
from heif_files import Piece, heif, picture, resized

from server.errors import ImageTooLarge, UndecodableImage, UnsupportedImage
from server.formats import codec, heic
from server.formats.header import probe
from server.formats.output import OutputFormat
from server.settings import LimitSettings

LIMITS = LimitSettings()
ROWS, COLUMNS = np.mgrid[0:72, 0:104]
SCENE = np.dstack([COLUMNS * 2, ROWS * 3, 255 - COLUMNS * 2]).astype(np.uint8)


def saved(image: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, **{"quality": 90, "chroma": 444, **options})
    return file.getvalue()


def with_exif(image: PIL.Image.Image, orientation: int) -> PIL.Image.Image:
    tags = PIL.Image.Exif()
    tags[0x010F], tags[0x0112] = "Maker", orientation
    image.info["exif"] = tags.tobytes()
    return image


def decode(data: bytes) -> codec.Image:
    return codec.decode(data, probe(data, LIMITS))


@pytest.mark.parametrize(
    ("mode", "planes", "has_alpha"), [("L", 1, False), ("LA", 1, True), ("RGB", 3, False), ("RGBA", 3, True)]
)
def test_grey_colour_and_alpha_are_distinguished_and_read(mode: str, planes: int, has_alpha: bool) -> None:
    image = PIL.Image.fromarray(SCENE).convert(mode)
    if has_alpha:
        image.putalpha(PIL.Image.fromarray(SCENE[:, :, 1]))
    data = saved(image, quality=-1)
    header, found = probe(data, LIMITS), decode(data)
    assert (header.format, header.is_grey, header.has_alpha) == ("HEIC", planes == 1, has_alpha)
    assert (len(found.planes), found.alpha is not None) == (planes, has_alpha)
    assert np.abs(found.planes[0].astype(int) - np.asarray(image.split()[0])).max() <= 3
    if found.alpha is not None:
        np.testing.assert_array_equal(found.alpha, SCENE[:, :, 1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_the_tables_is_applied_and_reset_in_exif(orientation: int) -> None:
    data = saved(with_exif(PIL.Image.fromarray(SCENE), orientation))
    header, found = probe(data, LIMITS), decode(data)
    expected = np.asarray(pillow_heif.open_heif(data))
    assert (header.height, header.width) == expected.shape[:2]
    np.testing.assert_array_equal(np.dstack(found.planes), expected)
    assert found.metadata.exif is not None
    written = codec.encode(found, found.planes, OutputFormat.JPEG, 90)
    tags = PIL.Image.open(io.BytesIO(written)).getexif()
    assert (tags[0x010F], tags[0x0112]) == ("Maker", 1)


def test_ten_bits_are_read_in_full() -> None:
    ramp = np.dstack([COLUMNS / 103, ROWS / 71, 1 - COLUMNS / 103])
    deep = pillow_heif.from_bytes("RGB;16", (104, 72), (ramp * 65535).astype("<u2").tobytes())
    file = io.BytesIO()
    deep.save(file, quality=-1, chroma=444)
    found = decode(file.getvalue())
    assert found.dtype == np.uint16
    assert max(plane.max() for plane in found.planes) == 65_535
    np.testing.assert_allclose(np.dstack(found.planes) / 65535, ramp, atol=3 / 1023)


def test_a_photo_in_tiles_with_a_profile_is_read_as_one() -> None:
    image = PIL.Image.fromarray(np.kron(SCENE, np.ones((5, 5, 1), np.uint8)))
    image.info["icc_profile"] = b"profile"
    data = saved(image, tile_size=128, quality=-1)
    assert data.count(b"hvc1") > 10
    assert probe(data, LIMITS).metadata.icc_profile == b"profile"
    assert np.abs(np.dstack(decode(data).planes).astype(int) - np.asarray(image)).max() <= 4


def test_a_second_picture_in_the_file_does_not_matter() -> None:
    file = pillow_heif.from_pillow(PIL.Image.fromarray(SCENE))
    file.add_from_pillow(PIL.Image.fromarray(SCENE[:40, :40]))
    stream = io.BytesIO()
    file.save(stream, quality=90)
    assert decode(stream.getvalue()).planes[0].shape == (72, 104)


def test_a_stream_that_is_larger_than_its_tables_say_is_refused() -> None:
    large = picture(saved(PIL.Image.new("RGB", (2048, 2048))))
    with pytest.raises(ImageTooLarge, match="8 x 8"):
        probe(heif(resized(large, 8, 8), brands=(b"heic", b"mif1")), LIMITS)


def test_every_cut_and_every_changed_byte_is_refused_or_read() -> None:
    data = saved(with_exif(PIL.Image.fromarray(SCENE), 6), tile_size=64)
    generator = np.random.default_rng(0)
    outcomes = set()
    for at in generator.integers(0, len(data), 150):
        for changed in (data[:at], data[:at] + bytes((generator.integers(0, 256),)) + data[at + 1 :]):
            try:
                decode(changed)
                outcomes.add("read")
            except (UndecodableImage, UnsupportedImage, ImageTooLarge) as error:
                outcomes.add(type(error).__name__)
    assert {"read", "UndecodableImage"} <= outcomes


def test_a_picture_of_another_codec_is_refused_by_its_name() -> None:
    with pytest.raises(UnsupportedImage, match="'jpeg'"):
        heic.read_header(heif(Piece(b"jpeg", b"x"), brands=(b"heic",)), 10**6)


WITHOUT = """
import json, sys
sys.modules["pillow_heif"] = None
from server.errors import UnsupportedImage
from server.formats import NAMES
from server.formats.header import peek, probe
from server.settings import LimitSettings
data, said = sys.stdin.buffer.read(), []
for read, seen in ((probe, data), (peek, data[:64]), (probe, data.replace(b"heic", b"mif1"))):
    try:
        read(seen, LimitSettings())
    except UnsupportedImage as error:
        said.append((str(error), error.extensions["allowed_formats"]))
print(json.dumps([said, NAMES]))
"""


def test_without_the_extra_the_refusal_names_the_format_and_the_extra() -> None:
    data = saved(PIL.Image.fromarray(SCENE))
    done = subprocess.run([sys.executable, "-c", WITHOUT], input=data, check=True, capture_output=True)
    said, formats = json.loads(done.stdout)
    assert len(said) == 3
    for sentence, allowed in said:
        assert sentence.startswith("HEIC needs the extra `heif`, which is not installed on this server")
        assert "HEIC" not in allowed
        assert allowed == formats
