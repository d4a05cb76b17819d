"""Prompt block of PromptIR: a weighted sum of learned components, mixed into the features.

Source: PromptIR (arXiv 2306.13090), section 3.1.1 (generation) and 3.1.2 (interaction).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import TransformerBlock, conv3x3, widened
from models.validity import Validity


class PromptGeneration(nn.Module):
    """Prompt Generation Module: features (N, C, H, W) -> prompt (N, prompt_channels, H, W), weights (N, components).

    The spatial mean of the features determines the weights of `components` learned maps of `size` x `size`. Their
    weighted sum is resized to the features' height and width. Because of the mean, every output pixel depends on the
    whole image.
    """

    def __init__(self, channels: int, prompt_channels: int, components: int, size: int) -> None:
        super().__init__()
        self.prompt_param = nn.Parameter(torch.rand(1, components, prompt_channels, size, size))
        self.linear_layer = nn.Linear(channels, components)
        self.conv3x3 = conv3x3(prompt_channels, prompt_channels)

    def forward(self, x: Tensor, valid: Validity | None = None) -> tuple[Tensor, Tensor]:
        weights = self.weigh(x, valid)  # N L
        components = self.prompt_param[0]  # L C s s
        mixture = (weights.to(x.dtype) @ components.flatten(1)).reshape(-1, *components.shape[1:])  # N C s s
        resized = F.interpolate(mixture, x.shape[-2:], mode="bilinear") if valid is None else valid.resized(mixture)
        return self.conv3x3(resized), weights  # N C H W

    def weigh(self, x: Tensor, valid: Validity | None = None) -> Tensor:
        """Compute the weight of each component, float32 (N, components), each row summing to one."""
        wide = widened(x).mean(dim=(-2, -1)) if valid is None else valid.mean(x)
        mean = wide.to(x.dtype)  # N C
        return torch.softmax(widened(self.linear_layer(mean)), dim=1)


def interact(
    x: Tensor, prompt: Tensor, block: TransformerBlock, reduce: nn.Conv2d, valid: Validity | None = None
) -> Tensor:
    """Prompt Interaction Module: concatenate features and prompt, apply a transformer block and project.

    A function rather than a module, because the published parameter names put both modules into the network.
    """
    return reduce(block(torch.cat([x, prompt], dim=1), valid))
