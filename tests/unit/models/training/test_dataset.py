"""Tests of PatchDataset: patches per step, from real photos, and messages about bad folders."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from models.degradation_head import LABELS
from models.photos import DatasetError, photo_paths, read_photo
from models.training.dataset import PatchDataset, validation_set
from models.training.evaluation_sets import VALIDATION
from models.training.mix import Mix


def photo(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def test_a_batch_holds_degraded_and_clean_patches_in_network_layout() -> None:
    batch = PatchDataset([photo(0), photo(1)], seed=0, mix=Mix({"gaussian": 1.0})).batch(step=0, size=5, patch=32)
    for side in (batch.degraded, batch.target):
        assert side.shape == (5, 3, 32, 32)
        assert side.dtype == np.float32
        assert side.min() >= 0.0
        assert side.max() <= 1.0
    assert all(not np.array_equal(d, c) for d, c in zip(batch.degraded, batch.target, strict=True))
    assert batch.labels.shape == (5, len(LABELS))


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    photos = [photo(0), photo(1)]
    dataset = PatchDataset(photos, seed=4)
    dataset.batch(step=1, size=3, patch=32)
    again = dataset.batch(step=9, size=3, patch=32)
    fresh = PatchDataset(photos, seed=4).batch(step=9, size=3, patch=32)
    for one, other in zip(again, fresh, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(fresh.target, PatchDataset(photos, seed=5).batch(step=9, size=3, patch=32).target)


def test_clean_patches_are_cut_from_photos_and_a_few_are_dead_leaves() -> None:
    flat = [np.full((64, 64, 3), level, np.uint8) for level in (51, 204)]
    target = PatchDataset(flat, seed=0, mix=Mix({"clean": 1.0})).batch(step=0, size=200, patch=16).target
    from_photos = [patch for patch in target if np.ptp(patch) == 0]
    assert 185 <= len(from_photos) < 200
    np.testing.assert_allclose(np.unique(from_photos), [51 / 255, 204 / 255], atol=1e-6)


def test_photos_are_offered_at_many_scales() -> None:
    rows = np.broadcast_to((np.arange(128) % 2 * 255)[:, None, None], (128, 128, 3)).astype(np.uint8)
    target = PatchDataset([rows], seed=0, mix=Mix({"clean": 1.0})).batch(step=0, size=64, patch=16).target
    contrast = target.std(axis=(1, 2, 3))
    assert (contrast > 0.49).any(), "at full size the stripes are kept"
    assert (contrast < 0.2).any(), "made smaller they average out"


def test_a_mix_draws_only_what_it_gives_a_share() -> None:
    black = [np.zeros((64, 64, 3), np.uint8)]
    degraded = PatchDataset(black, seed=0, mix=Mix({"haze": 1.0})).batch(step=0, size=8, patch=32).degraded
    differences = np.abs(np.diff(degraded, axis=3))
    assert degraded.mean() > 0.05, "haze veils black"
    assert differences.max() < 0.1, "and does it smoothly: no noise, no streaks"


def test_labels_say_what_was_done_to_a_patch() -> None:
    photos = [photo(0)]
    for name, expected in (("haze", "haze"), ("rain", "rain"), ("correlated", "noise"), ("clean", None)):
        labels = PatchDataset(photos, seed=0, mix=Mix({name: 1.0})).batch(step=0, size=4, patch=32).labels
        for patch in labels:
            assert {label for label, present in zip(LABELS, patch, strict=True) if present} == {expected} - {None}


def test_a_photo_smaller_than_the_patch_is_named() -> None:
    with pytest.raises(DatasetError, match="160x120 holds no 128x128 patch"):
        PatchDataset([photo(0)], seed=0).batch(step=0, size=1, patch=128)


def test_the_validation_set_is_the_same_for_every_run() -> None:
    photos = [photo(0, 240, 320), photo(1, 240, 320)]
    first, second = validation_set(photos, 64, seed=0), validation_set(photos, 64, seed=0)
    assert set(first) == set(VALIDATION)
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
