"""Tests of the evaluation: metrics, sets and image sizes."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.photos import DatasetError
from models.training.evaluate import evaluate_clean, evaluate_pairs, format_table, restore, worst_flat_error
from models.training.evaluation_sets import EVALUATION
from models.variants import build, variant


def identity(image: torch.Tensor) -> torch.Tensor:
    return image


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1])


def scene(seed: int, height: int = 45, width: int = 61) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(40, 215, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def test_a_network_that_changes_nothing_scores_what_its_input_scores(tmp_path: Path) -> None:
    for seed in range(2):
        write(tmp_path / f"{seed}.png", scene(seed))
    for score in evaluate_clean(identity, tmp_path, seed=0):
        assert score.images == 2
        assert score.psnr == pytest.approx(score.input_psnr)
        assert score.ssim == pytest.approx(score.input_ssim)


def test_noise_scores_the_psnr_that_its_sigma_means(tmp_path: Path) -> None:
    write(tmp_path / "grey.png", np.full((128, 128, 3), 128, np.uint8))
    scores = {score.name.split()[-1]: score for score in evaluate_clean(identity, tmp_path, seed=0)}
    for sigma in (15, 25):
        assert scores[f"noise{sigma}"].input_psnr == pytest.approx(20 * math.log10(255 / sigma), abs=0.1)


def test_a_perfect_pair_is_the_best_and_a_known_error_gives_its_psnr(tmp_path: Path) -> None:
    clean = np.full((40, 40, 3), 100, np.uint8)
    write(tmp_path / "target" / "0001.png", clean)
    write(tmp_path / "input" / "0001_0.8_0.2.png", clean + 10)
    score = evaluate_pairs(identity, tmp_path)
    assert score.psnr == pytest.approx(20 * math.log10(255 / 10), abs=1e-3)
    nearly_perfect = evaluate_pairs(lambda image: image - 9.9 / 255, tmp_path)
    assert nearly_perfect.psnr == pytest.approx(20 * math.log10(255 / 0.1), abs=0.1)
    assert nearly_perfect.ssim == pytest.approx(1.0, abs=1e-4)


def test_an_input_without_target_is_named(tmp_path: Path) -> None:
    write(tmp_path / "target" / "1.png", scene(0))
    write(tmp_path / "input" / "2.png", scene(0))
    with pytest.raises(DatasetError, match=r"2\.png has no matching image"):
        evaluate_pairs(identity, tmp_path)


def test_a_pair_of_two_sizes_is_named(tmp_path: Path) -> None:
    write(tmp_path / "target" / "1.png", scene(0))
    write(tmp_path / "input" / "1.png", scene(0, 46, 61))
    with pytest.raises(DatasetError, match="its target"):
        evaluate_pairs(identity, tmp_path)


def test_any_size_is_restored_to_itself() -> None:
    network = build(variant("promptir-tiny")).eval()
    image = scene(0, 29, 50).astype(np.float32) / 255
    restored = restore(network, image)
    assert restored.shape == image.shape
    assert restored.min() >= 0.0
    assert restored.max() <= 1.0


def test_the_table_has_a_row_for_every_score(tmp_path: Path) -> None:
    write(tmp_path / "a.png", scene(0))
    table = format_table(list(evaluate_clean(identity, tmp_path, seed=0)))
    assert len(table.splitlines()) == 2 + len(EVALUATION)
    assert "+0.00" in table


def test_the_worst_image_and_the_classical_tool_have_columns(tmp_path: Path) -> None:
    for seed in range(2):
        write(tmp_path / f"{seed}.png", scene(seed))
    scores = {score.name.split()[-1]: score for score in evaluate_clean(identity, tmp_path, seed=0, classical=True)}
    assert scores["clean"].psnr == scores["clean"].worst_psnr == 100.0
    assert scores["noise50"].worst_psnr < scores["noise50"].psnr < scores["noise50"].classical_psnr


def test_a_flat_field_that_is_darkened_is_measured() -> None:
    assert worst_flat_error(identity) == 0.0
    assert worst_flat_error(lambda image: image * 0.5) == pytest.approx(127.5, abs=0.01)
