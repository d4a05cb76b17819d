"""Training losses: square root of each image's root mean squared error, and the degradation head's loss."""

import torch.nn.functional as F
from torch import Tensor

RMSE_FLOOR = 0.02 / 3
"""Bounds the gradient of the root at zero error; in [0, 1].

At much lower values, clean pictures, whose error starts at zero, outweigh all others: neither haze nor JPEG artefacts
were removed in 48 000 patches.
"""


def balanced_rmse(restored: Tensor, target: Tensor) -> Tensor:
    """Return the mean over images (N, 3, H, W) of the square root of each image's root mean squared error.

    The outer root divides an image's gradient by the root of its error. In a plain mean, thick haze, with ten times the
    error of light noise, dominates most steps; with a logarithm it is not learned at all. By Parseval's theorem the
    same loss over Fourier transforms would only repeat it.
    """
    squared_error = (restored - target).square().mean(dim=(1, 2, 3))
    return (squared_error + RMSE_FLOOR**2).pow(0.25).mean()


def head_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the binary cross-entropy of each label (N, labels)."""
    return F.binary_cross_entropy_with_logits(logits, labels)
