"""PromptNAF: PromptIR's prompt blocks in a NAFNet-style U-Net.

Sources: NAFNet (arXiv 2204.04676) for the block, PromptIR (arXiv 2306.13090) for prompt generation and interaction,
which its section 3.1 describes as a plug-in for any restoration network.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.degradation_head import LABELS, DegradationHead, correction_strength, spatial_mean
from models.layers import LayerNorm2d, conv1x1, conv3x3, widened
from models.prompt import PromptGeneration
from models.restoration import IMAGE_CHANNELS, Outputs, RestorationNetwork
from models.validity import EVERYWHERE, Scales, Validity, kept, scales


@dataclass(frozen=True)
class PromptNAFConfig:
    """Hyperparameters of a PromptNAF network.

    All tuples are ordered from the finest level to the coarsest.
    """

    dim: int = 16
    encoder_blocks: tuple[int, int, int] = (2, 2, 4)
    latent_blocks: int = 8
    decoder_blocks: tuple[int, int, int] = (3, 2, 6)
    prompts: bool = True
    prompt_channels: tuple[int, int, int] = (16, 32, 64)
    prompt_sizes: tuple[int, int, int] = (64, 32, 16)
    prompt_components: int = 5


class NAFBlock(nn.Module):
    """Gated depthwise convolution with channel attention, then a gated feed-forward network. The shape is preserved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.norm1 = LayerNorm2d(channels)
        self.expand = conv1x1(channels, channels * 2)
        self.dwconv = conv3x3(channels * 2, channels * 2, groups=channels * 2)
        self.attention = nn.Linear(channels, channels)
        nn.init.ones_(self.attention.bias)  # pass every channel initially
        self.project_out = conv1x1(channels, channels)
        self.norm2 = LayerNorm2d(channels)
        self.ffn = GatedFeedForward(channels)

    def forward(self, x: Tensor, valid: Validity | None = None) -> Tensor:
        gate, value = torch.split(self.dwconv(self.expand(self.norm1(x, valid))), [self.channels] * 2, dim=1)
        y = gate * value
        weights = self.attention(spatial_mean(y, valid).to(y.dtype))  # N C
        x = x + self.project_out(y * weights[:, :, None, None])
        return x + self.ffn(self.norm2(x))


class GatedFeedForward(nn.Module):
    """Two 1x1 convolutions; in between, the two halves of the hidden channels are multiplied."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.project_in = conv1x1(channels, channels * 2)
        self.project_out = conv1x1(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = torch.split(self.project_in(x), [self.channels] * 2, dim=1)
        return self.project_out(gate * value)


class NAFLevel(nn.Sequential):
    """Sequence of NAF blocks."""

    def forward(self, x: Tensor, valid: Validity | None = None) -> Tensor:
        for block in self:
            x = block(x, valid)
        return x


class PromptInteraction(nn.Module):
    """Prompt generation and interaction at one decoder level. The shape is preserved."""

    def __init__(self, channels: int, prompt_channels: int, components: int, size: int) -> None:
        super().__init__()
        self.generation = PromptGeneration(channels, prompt_channels, components, size)
        self.block = NAFBlock(channels + prompt_channels)
        self.reduce = conv1x1(channels + prompt_channels, channels)

    def forward(self, x: Tensor, valid: Validity | None = None) -> tuple[Tensor, Tensor]:
        """Return the features and the prompt weights (N, components)."""
        prompt, weights = self.generation(x, valid)
        return self.reduce(self.block(torch.cat([x, prompt], dim=1), valid)), weights


class PromptNAF(RestorationNetwork):
    """NAFNet-style U-Net with a prompt block at each decoder level and a degradation head."""

    degradation_labels = LABELS

    def __init__(self, config: PromptNAFConfig) -> None:
        super().__init__()
        self.config = config
        dim, levels = config.dim, len(config.encoder_blocks)
        widths = [dim * 2**level for level in range(levels + 1)]

        def level(channels: int, count: int) -> NAFLevel:
            return NAFLevel(*(NAFBlock(channels) for _ in range(count)))

        self.embed = conv3x3(IMAGE_CHANNELS, dim)
        self.encoder = nn.ModuleList(map(level, widths, config.encoder_blocks))
        self.down = nn.ModuleList(
            nn.Conv2d(fine, coarse, kernel_size=2, stride=2, bias=False) for fine, coarse in pairwise(widths)
        )
        self.latent = level(widths[-1], config.latent_blocks)
        self.up = nn.ModuleList(conv1x1(coarse, fine * 4) for fine, coarse in pairwise(widths))
        self.decoder = nn.ModuleList(map(level, widths, config.decoder_blocks))
        self.prompt_shape = (len(widths) - 1, config.prompt_components) if config.prompts else None
        self.prompts = (
            nn.ModuleList(
                PromptInteraction(width, channels, config.prompt_components, size)
                for width, channels, size in zip(widths[1:], config.prompt_channels, config.prompt_sizes, strict=True)
            )
            if config.prompts
            else None
        )
        self.head = DegradationHead(sum(widths))
        self.output = conv3x3(dim, IMAGE_CHANNELS)

    def outputs(self, image: Tensor, height: Tensor | None = None, width: Tensor | None = None) -> Outputs:
        at = self._scales(image, height, width)
        x, skips, means = self._encode(image, at)
        logits = self.head(means)
        weights = []
        for level in reversed(range(len(skips))):
            if self.prompts is not None:
                x, level_weights = self.prompts[level](x, at[level + 1])
                weights.append(level_weights)
            x = F.pixel_shuffle(self.up[level](x), 2) + skips[level]
            x = self.decoder[level](x, at[level])
        correction = widened(self.output(kept(x, at[0])))
        if not self.training:  # an untrained head cannot tell yet
            correction = correction * correction_strength(logits)
        return Outputs(correction + image, torch.stack(weights, dim=1) if weights else None, logits)

    def head_features(self, image: Tensor) -> Tensor:
        return self._encode(image, self._scales(image, None, None))[2]

    def _scales(self, image: Tensor, height: Tensor | None, width: Tensor | None) -> Scales:
        dtype = self.output.weight.dtype
        return EVERYWHERE if height is None or width is None else scales(image, height, width, dtype)

    def _encode(self, image: Tensor, at: Scales) -> tuple[Tensor, list[Tensor], Tensor]:
        """Return the latent features, the skip connections from fine to coarse, and the input of the head."""
        dtype = self.output.weight.dtype
        x = self.embed(kept(image.to(dtype), at[0]))
        skips, means = [], []
        for level, (encode, down) in enumerate(zip(self.encoder, self.down, strict=True)):
            x = encode(x, at[level])
            skips.append(x)
            means.append(spatial_mean(x, at[level]))
            x = down(x)
        x = self.latent(x, at[len(skips)])
        means.append(spatial_mean(x, at[len(skips)]))
        return x, skips, torch.cat(means, dim=1).to(dtype)
