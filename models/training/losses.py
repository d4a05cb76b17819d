"""Training losses: square root of L1, the same in the frequency domain, and the degradation head's loss."""

import torch
import torch.nn.functional as F
from torch import Tensor

L1_FLOOR = 2e-2
"""Bounds the gradient of the root at zero error.

At 1e-4, clean pictures, whose error starts at zero, outweigh all others: no haze or JPEG artefacts were removed in
48 000 patches.
"""


def balanced_l1(restored: Tensor, target: Tensor) -> Tensor:
    """Return the mean over images (N, 3, H, W) of the square root of each image's L1 distance.

    The root divides an image's gradient by the root of its error. In a plain mean, thick haze, with ten times the error
    of light noise, dominates most steps; with a logarithm it is not learned at all.
    """
    return ((restored - target).abs().mean(dim=(1, 2, 3)) + L1_FLOOR).sqrt().mean()


def balanced_fft_l1(restored: Tensor, target: Tensor) -> Tensor:
    """Apply `balanced_l1` to the two-dimensional Fourier transforms, with equal weight for every frequency."""
    difference = torch.view_as_real(torch.fft.rfft2(restored - target, norm="ortho"))
    return (difference.abs().mean(dim=(1, 2, 3, 4)) + L1_FLOOR).sqrt().mean()


def head_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the binary cross-entropy of each label (N, labels)."""
    return F.binary_cross_entropy_with_logits(logits, labels)
