"""Tests that a server with an identity network returns the upload, as far as the format can hold it."""

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from PIL import ImageCms

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
TILED = {"tile": 64, "overlap": 16}
HEIGHT, WIDTH = 117, 203
KINDS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "TIFF": ("L", "LA", "RGB", "RGBA"),
    "BMP": ("L", "RGB"),
    "JPEG": ("L", "RGB"),
    "WEBP": ("RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
}
Restore = Callable[..., PIL.Image.Image]


def noise(mode: str) -> PIL.Image.Image:
    samples = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
    image = PIL.Image.fromarray(samples, "RGBA")
    return image if mode == "RGBA" else image.convert("RGB").convert(mode) if mode != "LA" else image.convert("LA")


def file(image: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def opened(data: bytes) -> PIL.Image.Image:
    image = PIL.Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.fixture(params=[{}, TILED], ids=["whole", "tiled"])
def restore(request: pytest.FixtureRequest, server: Any) -> Restore:
    """Restore an upload, whole or in tiles; returns the opened result."""

    def restored(data: bytes, **options: object) -> PIL.Image.Image:
        response = server.client.post("/restore", params=request.param | options, content=data)
        assert response.status_code == 200, response.text
        assert response.headers["x-restore-mode"] == ("tiled" if request.param else "whole")
        return opened(response.content)

    return restored


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in KINDS.items() for mode in modes])
@pytest.mark.parametrize("output", ["png", "tiff"])
def test_a_lossless_answer_has_the_pixels_of_the_upload(kind: str, mode: str, output: str, restore: Restore) -> None:
    data = file(noise(mode), kind)
    source, restored = opened(data), restore(data, format=output)
    assert restored.size == (WIDTH, HEIGHT)
    compared = "RGBA" if "A" in source.getbands() or "transparency" in source.info else "RGB"
    difference = np.abs(np.asarray(restored.convert(compared), int) - np.asarray(source.convert(compared), int))
    # JPEG readers round differently by one level; lossless formats have one reading.
    assert difference.max() <= (3 if kind in ("JPEG", "WEBP", "AVIF") else 0)
    if "A" in compared:
        np.testing.assert_array_equal(restored.getchannel("A"), source.convert("RGBA").getchannel("A"))


@pytest.mark.parametrize("kind", [".png", ".tiff"])
@pytest.mark.parametrize("output", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_come_back_to_the_last(kind: str, output: str, channels: int, server: Any) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, channels), dtype=np.uint16)
    data = cv2.imencode(kind, samples)[1].tobytes()
    for tiles in ({}, TILED):
        response = server.client.post("/restore", params={"format": output} | tiles, content=data)
        restored = cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert restored.dtype == np.uint16
        np.testing.assert_array_equal(restored.reshape(samples.shape), samples)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("output", ["png", "jpeg", "tiff"])
def test_grey_stays_grey(mode: str, output: str, restore: Restore) -> None:
    assert restore(file(noise(mode), "PNG"), format=output).mode == mode


@pytest.mark.parametrize("output", ["png", "webp", "avif", "tiff"])
def test_alpha_comes_back_to_the_bit(output: str, restore: Restore) -> None:
    source = noise("RGBA")
    restored = restore(file(source, "PNG"), format=output)
    np.testing.assert_array_equal(restored.getchannel("A"), source.getchannel("A"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_the_answer_stands_upright_and_says_so(kind: str, orientation: int, restore: Restore) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = file(noise("RGB"), kind, exif=exif)
    upright = PIL.ImageOps.exif_transpose(opened(data))
    restored = restore(data)
    assert restored.size == upright.size
    assert np.abs(np.asarray(restored.convert("RGB"), int) - np.asarray(upright.convert("RGB"), int)).max() <= 3
    assert restored.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("output", ["png", "jpeg", "webp", "avif", "tiff"])
def test_the_colour_profile_comes_back_byte_for_byte(kind: str, output: str, restore: Restore) -> None:
    assert restore(file(noise("RGB"), kind, icc_profile=PROFILE), format=output).info["icc_profile"] == PROFILE


def test_metadata_is_kept_or_stripped_as_asked(restore: Restore) -> None:
    exif = PIL.Image.Exif()
    exif[0x010F] = "Camera works"
    data = file(noise("RGB"), "JPEG", exif=exif, icc_profile=PROFILE)
    assert restore(data).getexif()[0x010F] == "Camera works"
    stripped = restore(data, metadata="strip")
    assert (dict(stripped.getexif()), stripped.info["icc_profile"]) == ({}, PROFILE)
    assert "icc_profile" not in restore(data, color="srgb").info


def test_cmyk_comes_back_as_the_colours_it_shows(restore: Restore) -> None:
    image = PIL.Image.new("CMYK", (WIDTH, HEIGHT), (40, 120, 0, 20))
    data = file(image, "JPEG", quality=95)
    restored = restore(data)
    expected = np.asarray(opened(data).convert("RGB"), int)
    assert restored.mode == "RGB"
    assert np.abs(np.asarray(restored, int) - expected).max() <= 3


@pytest.mark.parametrize(("kind", "output"), [("JPEG", "JPEG"), ("WEBP", "WEBP"), ("TIFF", "TIFF"), ("BMP", "PNG")])
def test_same_is_the_uploads_own_format(kind: str, output: str, restore: Restore) -> None:
    assert restore(file(noise("RGB"), kind), format="same").format == output
