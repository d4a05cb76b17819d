"""Tests of the losses' weighting of images and frequencies."""

import pytest
import torch

from models.training.losses import balanced_fft_l1, balanced_l1


def test_an_image_with_a_large_error_counts_more_but_less_than_in_proportion() -> None:
    target = torch.zeros(2, 3, 8, 8)
    restored = torch.stack([torch.full((3, 8, 8), 0.01), torch.full((3, 8, 8), 0.16)]).requires_grad_()
    balanced_l1(restored, target).backward()
    light, heavy = restored.grad.abs().mean(dim=(1, 2, 3))
    assert 1.5 < light / heavy < 16 / 1.5


def test_a_perfect_restoration_gives_a_bounded_gradient() -> None:
    restored = torch.zeros(1, 3, 8, 8, requires_grad=True)
    balanced_l1(restored, torch.zeros(1, 3, 8, 8)).backward()
    assert torch.isfinite(restored.grad).all()


def test_a_pattern_costs_the_same_at_every_frequency() -> None:
    columns = torch.arange(32.0)
    target = torch.zeros(1, 3, 32, 32)
    costs = [
        float(balanced_fft_l1(target + 0.1 * torch.cos(2 * torch.pi * frequency * columns / 32), target))
        for frequency in (1, 4, 11)
    ]
    assert costs == pytest.approx([costs[0]] * 3, rel=1e-4)
