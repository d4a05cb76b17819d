"""RestorationNetwork: what export, training and the server know of a network, whatever its body is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

IMAGE_CHANNELS = 3
SIZE_MULTIPLE = 8
"""Height and width must be divisible by this: the networks work at down to an eighth of the resolution."""


def findings_shape(levels: int, components: int, labels: Sequence[str]) -> tuple[int, int] | None:
    """(rows, columns) of the findings of a network with so many prompts and these degradation labels."""
    rows = levels + bool(labels)
    return (rows, max(components, len(labels))) if rows else None


class Outputs(NamedTuple):
    """Everything that a network answers with."""

    restored: Tensor
    """(N, 3, H, W) float32, not clipped."""
    prompt_weights: Tensor | None = None
    """float32 (N, levels, components), levels from coarse to fine; None for a network without prompts."""
    degradations: Tensor | None = None
    """Logits of `degradation_labels`, float32 (N, labels); None for a network without a degradation head."""


class RestorationNetwork(nn.Module, ABC):
    """Blind image restoration: (N, 3, H, W) in [0, 1] -> (N, 3, H, W), not clipped. H and W are multiples of 8.

    Images are float32 whatever the weights are: a network in half precision casts on the way in and adds its answer
    to the image in float32 (see `models/precision.py`). With `height` and `width` (N,), each image has its own size
    and lies in the top left corner of its canvas; its answer is then the one it would get alone.
    """

    prompt_shape: tuple[int, int] | None = None
    """(levels, components) of the prompt weights of an image."""
    degradation_labels: tuple[str, ...] = ()

    @property
    def findings_shape(self) -> tuple[int, int] | None:
        """(rows, columns) of the findings of an image, see `WithFindings`; None for a network without any."""
        return findings_shape(*(self.prompt_shape or (0, 0)), self.degradation_labels)

    @abstractmethod
    def outputs(self, image: Tensor, height: Tensor | None = None, width: Tensor | None = None) -> Outputs:
        """Restore `image`, and say what was found in it."""

    def forward(self, image: Tensor, height: Tensor | None = None, width: Tensor | None = None) -> Tensor:
        return self.outputs(image, height, width).restored


class WithFindings(nn.Module):
    """A network whose call answers with the image and its findings: exporters, compilers and recorders run a call.

    Findings are float32 (N, *findings_shape): a row of prompt weights for each level, from coarse to fine, then a row
    with the probability of each degradation label. Rows are padded with zeros. One tensor, because every runtime then
    copies and checks one more output, whatever a network finds.
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
    """Append `missing` columns of zeros; `F.pad` would be traced to arithmetic that constant folding warns about."""
    if not missing:
        return rows
    return torch.cat([rows, torch.zeros_like(rows[..., :1]).expand(-1, -1, missing)], dim=-1)


def channels_last(network: RestorationNetwork) -> RestorationNetwork:
    """Lay out the convolution weights of `network` channels last, in place: faster on CPUs and tensor cores alike."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # alone: the prompts have five axes, and no such layout
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
