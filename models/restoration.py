"""Interface of all restoration networks, shared by export, training and server."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

IMAGE_CHANNELS = 3
SIZE_MULTIPLE = 8
"""Height and width must be divisible by this number: the networks downsample to an eighth of the resolution."""


def findings_shape(levels: int, components: int, labels: Sequence[str]) -> tuple[int, int] | None:
    """Return the (rows, columns) of the findings for the given prompt levels, components and labels; None if empty."""
    rows = levels + bool(labels)
    return (rows, max(components, len(labels))) if rows else None


class Outputs(NamedTuple):
    """All outputs of a network."""

    restored: Tensor
    """(N, 3, H, W) float32, not clipped."""
    prompt_weights: Tensor | None = None
    """float32 (N, levels, components), levels from coarse to fine; None for a network without prompts."""
    degradations: Tensor | None = None
    """Logits of `degradation_labels`, float32 (N, labels); None for a network without a degradation head."""


class RestorationNetwork(nn.Module, ABC):
    """Blind image restoration: (N, 3, H, W) in [0, 1] -> (N, 3, H, W), not clipped. H and W are multiples of 8.

    Images are always float32: a half-precision network casts its input and adds its residual to the image in float32
    (see `models/precision.py`). With `height` and `width` (N,), each image has its own size and lies in the top left
    corner of the padded batch; its output then equals that of running it alone.
    """

    prompt_shape: tuple[int, int] | None = None
    """(levels, components) of an image's prompt weights."""
    degradation_labels: tuple[str, ...] = ()

    @property
    def findings_shape(self) -> tuple[int, int] | None:
        """Return the (rows, columns) of an image's findings, see `WithFindings`; None for a network without any."""
        return findings_shape(*(self.prompt_shape or (0, 0)), self.degradation_labels)

    @abstractmethod
    def outputs(self, image: Tensor, height: Tensor | None = None, width: Tensor | None = None) -> Outputs:
        """Restore `image`, and return prompt weights and degradation logits with it."""

    def head_features(self, image: Tensor) -> Tensor:
        """Return the input (N, C) of the degradation head; raise `ValueError` if the network has none."""
        raise ValueError("the network has no degradation head")

    def forward(self, image: Tensor, height: Tensor | None = None, width: Tensor | None = None) -> Tensor:
        return self.outputs(image, height, width).restored


class WithFindings(nn.Module):
    """Wrapper whose forward pass returns image and findings, for exporters, compilers and CUDA graph capture.

    Findings are float32 (N, *findings_shape): one row of prompt weights per level, from coarse to fine, then one row
    with the probability of each degradation label. Rows are padded with zeros. They form a single tensor, so that every
    runtime handles exactly one additional output, whatever the network provides.
    """

    def __init__(self, network: RestorationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, height: Tensor | None = None, width: Tensor | None = None) -> tuple[Tensor, ...]:
        restored, weights, logits = self.network.outputs(image, height, width)
        shape = self.network.findings_shape
        if shape is None:
            return (restored,)
        _, components = self.network.prompt_shape or (0, 0)
        rows = [] if weights is None else [_padded(weights, shape[1] - components)]
        if logits is not None:
            missing = shape[1] - len(self.network.degradation_labels)
            rows.append(_padded(torch.sigmoid(logits)[:, None], missing))
        return restored, rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)


def _padded(rows: Tensor, missing: int) -> Tensor:
    """Append `missing` columns of zeros. `F.pad` would trace to arithmetic that triggers constant-folding warnings."""
    if not missing:
        return rows
    return torch.cat([rows, torch.zeros_like(rows[..., :1]).expand(-1, -1, missing)], dim=-1)


def channels_last(network: RestorationNetwork) -> RestorationNetwork:
    """Convert the convolution weights of `network` to channels-last in place: faster on CPUs and tensor cores alike."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # convolutions only: the five-axis prompts have no such layout
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
