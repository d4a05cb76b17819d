"""Head that classifies the degradations of an image from a network's features."""

import torch
from torch import Tensor, nn

from models.layers import widened
from models.validity import Validity

LABELS = ("noise", "rain", "haze", "jpeg")
"""Detected degradations; clean images have none, mixtures two or more."""
HIDDEN = 64


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


def spatial_mean(x: Tensor, valid: Validity | None = None) -> Tensor:
    """Average each channel of (N, C, H, W) over its image's pixels, in at least float32: (N, C)."""
    if valid is not None:
        return valid.mean(x)
    return x.mean(dim=(-2, -1), dtype=torch.promote_types(x.dtype, torch.float32))
