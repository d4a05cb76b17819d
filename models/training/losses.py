"""The losses of a run: root of L1, its like in frequency, and what the degradation head has to learn."""

import torch
import torch.nn.functional as F
from torch import Tensor

L1_FLOOR = 2e-2
"""Bounds the gradient of the root at a perfect answer. At 1e-4 the clean pictures, which begin perfect, outweigh all
others: no haze and no JPEG block was removed in 48 000 patches."""


def balanced_l1(restored: Tensor, target: Tensor) -> Tensor:
    """The mean over images (N, 3, H, W) of the square root of each image's L1 distance.

    The root weighs an image by one over the root of its error: in a plain mean the thick haze, whose error is ten times
    that of light noise, decides most steps, and under a logarithm it is not learnt at all.
    """
    return ((restored - target).abs().mean(dim=(1, 2, 3)) + L1_FLOOR).sqrt().mean()


def balanced_fft_l1(restored: Tensor, target: Tensor) -> Tensor:
    """As `balanced_l1`, of the two-dimensional Fourier transforms: every frequency counts the same."""
    difference = torch.view_as_real(torch.fft.rfft2(restored - target, norm="ortho"))
    return (difference.abs().mean(dim=(1, 2, 3, 4)) + L1_FLOOR).sqrt().mean()


def head_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of each label (N, labels)."""
    return F.binary_cross_entropy_with_logits(logits, labels)
