"""Tests of the loss's weighting of images and errors."""

import pytest
import torch

from models.training.losses import balanced_rmse


def test_an_image_with_a_large_error_counts_more_but_less_than_in_proportion() -> None:
    target = torch.zeros(2, 3, 8, 8)
    restored = torch.stack([torch.full((3, 8, 8), 0.01), torch.full((3, 8, 8), 0.16)]).requires_grad_()
    balanced_rmse(restored, target).backward()
    light, heavy = restored.grad.abs().mean(dim=(1, 2, 3))
    assert 1.5 < light / heavy < 16 / 1.5


def test_a_perfect_restoration_gives_a_bounded_gradient() -> None:
    restored = torch.zeros(1, 3, 8, 8, requires_grad=True)
    balanced_rmse(restored, torch.zeros(1, 3, 8, 8)).backward()
    assert torch.isfinite(restored.grad).all()


def test_the_best_constant_answer_is_the_mean_as_psnr_asks_and_not_the_median() -> None:
    target = torch.tensor([0.0, 0.0, 0.0, 0.8]).repeat(1, 3, 4, 1)  # (1, 3, 4, 4)
    mean = torch.tensor(0.2, requires_grad=True)
    balanced_rmse(mean.expand_as(target), target).backward()
    assert mean.grad.item() == pytest.approx(0.0, abs=1e-6)
