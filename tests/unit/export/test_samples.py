"""Tests of the verification samples: shapes, values and folders without photos."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.samples import noise_samples, photo_samples, square_photo


def save_photo(path: Path, width: int, height: int, mode: str = "RGB") -> None:
    gradient = np.linspace(0, 255, width * height).astype(np.uint8).reshape(height, width)
    Image.fromarray(gradient).convert(mode).save(path)


def test_noise_is_the_same_at_every_call() -> None:
    for first, second in zip(noise_samples(), noise_samples(), strict=True):
        assert np.array_equal(first.pixels, second.pixels)
        assert first.pixels.dtype == np.float32


def test_a_photo_is_cut_to_multiples_of_eight_and_run_alone_and_with_its_mirror(tmp_path: Path) -> None:
    save_photo(tmp_path / "b.png", 37, 21)
    save_photo(tmp_path / "a.JPG", 700, 30)
    (tmp_path / "README.md").write_text("no photo")
    samples = list(photo_samples(tmp_path))
    assert [(sample.name, sample.pixels.shape) for sample in samples] == [
        ("a.JPG", (1, 3, 24, 512)),
        ("a.JPG + mirror", (2, 3, 24, 512)),
        ("b.png", (1, 3, 16, 32)),
    ]
    pair = samples[1].pixels
    assert np.array_equal(pair[0], pair[1, :, :, ::-1])


def test_a_photo_becomes_rgb_in_zero_to_one(tmp_path: Path) -> None:
    save_photo(tmp_path / "grey.png", 16, 16, "L")
    (_, _) = photo_samples(tmp_path)
    pixels = square_photo(tmp_path / "grey.png", 16).pixels
    assert pixels.shape == (1, 3, 16, 16)
    assert pixels.dtype == np.float32
    assert (pixels.min(), pixels.max()) == (0, 1)
    assert np.array_equal(pixels[:, 0], pixels[:, 2])


def test_a_photo_can_be_resized_to_any_square(tmp_path: Path) -> None:
    save_photo(tmp_path / "wide.png", 48, 20)
    assert square_photo(tmp_path / "wide.png", 64).pixels.shape == (1, 3, 64, 64)


def test_a_folder_without_photos_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no photo"):
        list(photo_samples(tmp_path))
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        list(photo_samples(tmp_path / "nowhere"))


def test_a_file_that_is_no_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not a photo")
    with pytest.raises(ValueError, match=r"broken\.jpg is not an image"):
        list(photo_samples(tmp_path))


def test_a_photo_of_a_few_pixels_is_refused(tmp_path: Path) -> None:
    save_photo(tmp_path / "dot.png", 40, 7)
    with pytest.raises(ValueError, match="40x7 is smaller than 8x8"):
        list(photo_samples(tmp_path))
