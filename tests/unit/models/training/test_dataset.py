"""PatchDataset draws the patches a step is owed, from real photos, and says what is wrong with a folder."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from models.training.dataset import DatasetError, Mix, PatchDataset, photo_paths, read_photo, validation_set


def photo(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def test_a_batch_holds_degraded_and_clean_patches_in_network_layout() -> None:
    degraded, clean = PatchDataset([photo(0), photo(1)], seed=0).batch(step=0, size=5, patch=32)
    for side in (degraded, clean):
        assert side.shape == (5, 3, 32, 32)
        assert side.dtype == np.float32
        assert side.min() >= 0.0
        assert side.max() <= 1.0
    assert all(not np.array_equal(d, c) for d, c in zip(degraded, clean, strict=True))


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    photos = [photo(0), photo(1)]
    dataset = PatchDataset(photos, seed=4)
    dataset.batch(step=1, size=3, patch=32)
    again = dataset.batch(step=9, size=3, patch=32)
    fresh = PatchDataset(photos, seed=4).batch(step=9, size=3, patch=32)
    np.testing.assert_array_equal(again, fresh)
    assert not np.array_equal(fresh[1], PatchDataset(photos, seed=5).batch(step=9, size=3, patch=32)[1])


def test_a_clean_patch_is_cut_from_a_photo() -> None:
    flat = [np.full((64, 64, 3), level, np.uint8) for level in (51, 204)]
    _, clean = PatchDataset(flat, seed=0).batch(step=0, size=16, patch=16)
    np.testing.assert_allclose(np.unique(clean), [51 / 255, 204 / 255], atol=1e-6)


def test_a_mix_draws_only_what_it_gives_a_share() -> None:
    only_haze = Mix(noise=0.0, in_between_noise=0.0, rain=0.0, haze=1.0)
    black = [np.zeros((64, 64, 3), np.uint8)]
    degraded, _ = PatchDataset(black, seed=0, mix=only_haze).batch(step=0, size=8, patch=32)
    differences = np.abs(np.diff(degraded, axis=3))
    assert degraded.mean() > 0.05, "haze veils black"
    assert differences.max() < 0.1, "and does it smoothly: no noise, no streaks"


def test_a_share_of_the_patches_is_saved_as_a_jpeg_half_of_them_with_halved_colour() -> None:
    flat = [np.full((64, 64, 3), 128, np.uint8)]

    def colourless(jpeg: float) -> int:
        # Noise is stronger in the colours than in the brightness, until they are halved.
        mix = Mix(noise=1.0, in_between_noise=0.0, rain=0.0, haze=0.0, jpeg=jpeg)
        degraded, _ = PatchDataset(flat, seed=0, mix=mix).batch(step=0, size=32, patch=32)
        colour, brightness = (degraded[:, 0] - degraded[:, 2]).std(axis=(1, 2)), degraded.mean(axis=1).std(axis=(1, 2))
        return int((colour < brightness).sum())

    assert colourless(jpeg=0.0) == 0
    assert 3 <= colourless(jpeg=0.5) < colourless(jpeg=1.0) <= 26


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_of_jpeg_files_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Mix(jpeg=share)


def test_a_photo_smaller_than_the_patch_is_named() -> None:
    with pytest.raises(DatasetError, match="160x120 holds no 128x128 patch"):
        PatchDataset([photo(0)], seed=0).batch(step=0, size=1, patch=128)


def test_the_validation_set_is_the_same_for_every_run() -> None:
    photos = [photo(0, 240, 320), photo(1, 240, 320)]
    first, second = validation_set(photos, 64, seed=0), validation_set(photos, 64, seed=0)
    assert sorted(first) == ["haze", "noise15", "noise25", "noise25jpeg", "noise50", "rain"]
    for kind, (degraded, clean) in first.items():
        assert degraded.shape == clean.shape == (2, 3, 64, 64)
        np.testing.assert_array_equal(degraded, second[kind][0])


def test_photos_are_found_by_suffix_and_read_as_rgb(tmp_path: Path) -> None:
    red = np.zeros((8, 10, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / "red.PNG"), red)
    (tmp_path / "SOURCES.tsv").write_text("not a photo")
    (path,) = photo_paths(tmp_path)
    pixels = read_photo(path)
    assert pixels.shape == (8, 10, 3)
    assert (pixels == [255, 0, 0]).all()


def test_a_folder_without_photos_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no photo"):
        photo_paths(tmp_path)
    with pytest.raises(DatasetError, match="is not a folder"):
        photo_paths(tmp_path / "absent")


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"not a jpeg")
    with pytest.raises(DatasetError, match=r"broken\.jpg is not an image"):
        read_photo(path)


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5, 0.5), (1.2, -0.2, 0.0, 0.0)], ids=str)
def test_a_mix_whose_shares_are_no_shares_is_refused(shares: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="sum to one"):
        Mix(*shares)
