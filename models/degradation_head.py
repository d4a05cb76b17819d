"""Head that classifies the degradations of an image from a network's features."""

import torch
from torch import Tensor, nn

from models.layers import widened
from models.validity import Validity

LABELS = ("noise", "rain", "haze", "jpeg")
"""Detected degradations; clean images have none, mixtures two or more."""
HIDDEN = 64
CLEAN_BELOW, DEGRADED_ABOVE = 0.05, 0.5
"""Highest probability of a label below which an image is left unchanged, and above which it is fully restored."""


class DegradationHead(nn.Module):
    """Classifier: spatial means of features at several resolutions -> float32 logits (N, len(LABELS)).

    Labels are not mutually exclusive: a photo can be noisy and hazy.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, HIDDEN)
        self.logits = nn.Linear(HIDDEN, len(LABELS))

    def forward(self, means: Tensor) -> Tensor:
        """Return the logits for `means` (N, channels), see `spatial_mean`."""
        return widened(self.logits(torch.relu(self.hidden(means))))


def correction_strength(logits: Tensor) -> Tensor:
    """Return the share of the correction to apply to each image, float32 (N, 1, 1, 1) in [0, 1].

    It is 0 for an image that certainly shows no degradation, so that clean photos and flat fields come back unchanged.
    """
    highest = torch.sigmoid(logits).amax(dim=1)[:, None, None, None]
    return ((highest - CLEAN_BELOW) / (DEGRADED_ABOVE - CLEAN_BELOW)).clamp(0.0, 1.0)


def spatial_mean(x: Tensor, valid: Validity | None = None) -> Tensor:
    """Average each channel of (N, C, H, W) over its image's pixels, in at least float32: (N, C)."""
    if valid is not None:
        return valid.mean(x)
    return x.mean(dim=(-2, -1), dtype=torch.promote_types(x.dtype, torch.float32))
