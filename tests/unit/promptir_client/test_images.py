"""Tests of image types: each arrives as the same samples."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from promptir_client.batches import archive_of
from promptir_client.images import upload_of
from promptir_client.restored import Restored, Timings


def samples_of(data: bytes) -> np.ndarray[Any, Any]:
    return Restored(data, "image/png", "whole", Timings()).numpy()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 2), (5, 7, 3), (5, 7, 4)])
def test_arrays_are_written_without_loss(dtype: type, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    np.testing.assert_array_equal(samples_of(upload_of(array)), array)
    np.testing.assert_array_equal(samples_of(upload_of(array[::-1, ::-1])), array[::-1, ::-1])


def test_arrays_that_are_no_image_are_refused_in_a_sentence() -> None:
    for array, kind in (
        (np.zeros((4, 4, 3), np.float32), TypeError),
        (np.zeros((4, 4, 5), np.uint8), ValueError),
        (np.zeros((0, 4), np.uint8), ValueError),
        (np.zeros(4, np.uint8), ValueError),
    ):
        with pytest.raises(kind, match="send"):
            upload_of(array)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "I;16"])
def test_pillow_images_of_every_mode_are_sent(mode: str) -> None:
    array = np.random.default_rng(1).integers(0, 256, (6, 9, 4), np.uint8)
    grey = PIL.Image.fromarray(array[..., 0].astype(np.uint16) * 257)
    colour = PIL.Image.fromarray(array)
    image = grey if mode == "I;16" else colour.convert("LA" if mode == "La" else mode).convert(mode)
    with PIL.Image.open(io.BytesIO(upload_of(image))) as sent:
        kept = {"CMYK": "RGB", "YCbCr": "RGB", "La": "LA", "PA": "RGBA", "RGBa": "RGBA"}
        expected = image.convert(kept[mode]) if mode in kept else image
        np.testing.assert_array_equal(np.asarray(sent), np.asarray(expected))


def test_a_pillow_image_keeps_its_profile_and_its_orientation() -> None:
    image = PIL.Image.new("RGB", (4, 4))
    image.info["icc_profile"] = b"a profile"
    image.getexif()[274] = 6
    with PIL.Image.open(io.BytesIO(upload_of(image))) as sent:
        assert sent.info["icc_profile"] == b"a profile"
        assert sent.getexif()[274] == 6


def test_files_are_sent_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"anything")
    with path.open("rb") as file:
        sent = [upload_of(kind) for kind in (path, str(path), b"anything", bytearray(b"anything"), file)]
    assert sent == [b"anything"] * 5


@pytest.mark.parametrize(
    ("image", "told"),
    [(5, "not int"), (["photo.png"], "not list"), (io.StringIO("pixels"), "open it with mode 'rb'")],
)
def test_what_is_no_image_is_told_what_would_be_one(image: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        upload_of(image)


def test_a_batch_of_nothing_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ValueError, match="a batch needs at least one image"):
        archive_of([])
