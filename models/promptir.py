"""PromptIR: the network and its named variants.

Source: PromptIR (NeurIPS 2023, arXiv 2306.13090), section 3 and figure 2. Attribute names are those of the published
checkpoints.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.layers import Downsample, Level, TransformerBlock, Upsample, conv1x1, conv3x3, widened
from models.prompt import PromptGeneration, interact
from models.validity import EVERYWHERE, kept, scales

IMAGE_CHANNELS = 3
PROMPT_LEVELS = 3
"""Decoder levels that mix a prompt in."""
SIZE_MULTIPLE = 8
"""Height and width must be divisible by this: the encoder halves them three times."""


@dataclass(frozen=True)
class PromptIRConfig:
    """The sizes that define one PromptIR network.

    `blocks` and `heads` go from full resolution to the latent; `prompt_channels` and `prompt_sizes` go from the finest
    decoder level to the coarsest.
    """

    dim: int = 48
    blocks: tuple[int, int, int, int] = (4, 6, 6, 8)
    refinement_blocks: int = 4
    heads: tuple[int, int, int, int] = (1, 2, 4, 8)
    ffn_expansion: float = 2.66
    prompt_channels: tuple[int, int, int] = (64, 128, 320)
    prompt_sizes: tuple[int, int, int] = (64, 32, 16)
    prompt_components: int = 5
    unused_convolutions: bool = False
    """Carry the six convolutions that published checkpoints hold and the forward pass never runs."""

    @staticmethod
    def named(variant: str) -> "PromptIRConfig":
        """The configuration called `variant`; `ValueError` lists the names there are."""
        try:
            return VARIANTS[variant]
        except KeyError:
            known = ", ".join(sorted(VARIANTS))
            raise ValueError(f"unknown PromptIR variant {variant!r}; known variants: {known}") from None


VARIANTS = {
    "promptir": PromptIRConfig(unused_convolutions=True),
    "promptir-compact": PromptIRConfig(dim=16, blocks=(1, 2, 2, 2), refinement_blocks=1, prompt_channels=(16, 32, 64)),
    "promptir-tiny": PromptIRConfig(
        dim=8, blocks=(1, 1, 1, 1), refinement_blocks=1, prompt_channels=(8, 16, 32), prompt_sizes=(16, 8, 4)
    ),
}
"""The paper's network, the one that ships, and one small enough for tests."""


class PromptIR(nn.Module):
    """Blind image restoration: (N, 3, H, W) in [0, 1] -> (N, 3, H, W), not clipped. H and W are multiples of 8.

    Images are float32 whatever the weights are: a network in half precision casts on the way in and adds its answer
    to the image in float32 (see `models/precision.py`).
    """

    def __init__(self, config: PromptIRConfig) -> None:
        super().__init__()
        self.config = config
        dim, heads, blocks = config.dim, config.heads, config.blocks
        prompt1, prompt2, prompt3 = config.prompt_channels

        def level(channels: int, level_heads: int, count: int) -> Level:
            return Level(*(TransformerBlock(channels, level_heads, config.ffn_expansion) for _ in range(count)))

        def generation(level_index: int, channels: int) -> PromptGeneration:
            size = config.prompt_sizes[level_index]
            return PromptGeneration(channels, config.prompt_channels[level_index], config.prompt_components, size)

        self.patch_embed = PatchEmbedding(dim)
        self.encoder_level1 = level(dim, heads[0], blocks[0])
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = level(dim * 2, heads[1], blocks[1])
        self.down2_3 = Downsample(dim * 2)
        self.encoder_level3 = level(dim * 4, heads[2], blocks[2])
        self.down3_4 = Downsample(dim * 4)
        self.latent = level(dim * 8, heads[3], blocks[3])

        # All three interaction blocks use the head count of level 3, as published.
        self.prompt3 = generation(2, dim * 8)
        self.noise_level3 = TransformerBlock(dim * 8 + prompt3, heads[2], config.ffn_expansion)
        self.reduce_noise_level3 = conv1x1(dim * 8 + prompt3, dim * 4)
        self.up4_3 = Upsample(dim * 4)
        self.reduce_chan_level3 = conv1x1(dim * 6, dim * 4)
        self.decoder_level3 = level(dim * 4, heads[2], blocks[2])

        self.prompt2 = generation(1, dim * 4)
        self.noise_level2 = TransformerBlock(dim * 4 + prompt2, heads[2], config.ffn_expansion)
        self.reduce_noise_level2 = conv1x1(dim * 4 + prompt2, dim * 4)
        self.up3_2 = Upsample(dim * 4)
        self.reduce_chan_level2 = conv1x1(dim * 4, dim * 2)
        self.decoder_level2 = level(dim * 2, heads[1], blocks[1])

        self.prompt1 = generation(0, dim * 2)
        self.noise_level1 = TransformerBlock(dim * 2 + prompt1, heads[2], config.ffn_expansion)
        self.reduce_noise_level1 = conv1x1(dim * 2 + prompt1, dim * 2)
        self.up2_1 = Upsample(dim * 2)
        self.decoder_level1 = level(dim * 2, heads[0], blocks[0])
        self.refinement = level(dim * 2, heads[0], config.refinement_blocks)
        self.output = conv3x3(dim * 2, IMAGE_CHANNELS)

        if config.unused_convolutions:
            self._add_unused_convolutions()

    @property
    def prompt_shape(self) -> tuple[int, int]:
        """(levels, components) of the prompt weights of an image."""
        return PROMPT_LEVELS, self.config.prompt_components

    def _add_unused_convolutions(self) -> None:
        dim, (prompt1, prompt2, prompt3) = self.config.dim, self.config.prompt_channels
        self.chnl_reduce1 = conv1x1(prompt1, prompt1)
        self.chnl_reduce2 = conv1x1(prompt2, prompt2)
        self.chnl_reduce3 = conv1x1(prompt3, prompt3 - 64)
        self.reduce_noise_channel_1 = conv1x1(dim + prompt1, dim)
        self.reduce_noise_channel_2 = conv1x1(dim * 2 + prompt2, dim * 2)
        self.reduce_noise_channel_3 = conv1x1(dim * 4 + prompt3 - 64, dim * 4)

    def forward(self, image: Tensor, height: Tensor | None = None, width: Tensor | None = None) -> Tensor:
        """With `height` and `width` (N,), of each image's own size in the top left corner of a canvas `image`.

        Each answer is then the one of that image alone; what is outside of it means nothing, before and after.
        """
        return self.weighed(image, height, width)[0]

    def weighed(
        self, image: Tensor, height: Tensor | None = None, width: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As a call, and the prompt weights: float32 (N, 3, components), the levels from coarse to fine."""
        dtype = self.output.weight.dtype
        full, half, quarter, eighth = (
            EVERYWHERE if height is None or width is None else scales(image, height, width, dtype)
        )
        level1 = self.encoder_level1(self.patch_embed(kept(image.to(dtype), full)), full)  # N dim H W
        level2 = self.encoder_level2(self.down1_2(level1, full), half)  # N 2dim H/2 W/2
        level3 = self.encoder_level3(self.down2_3(level2, half), quarter)  # N 4dim H/4 W/4
        latent = self.latent(self.down3_4(level3, quarter), eighth)  # N 8dim H/8 W/8

        prompt, weights3 = self.prompt3(latent, eighth)
        x = interact(latent, prompt, self.noise_level3, self.reduce_noise_level3, eighth)  # N 4dim H/8 W/8
        x = self.reduce_chan_level3(torch.cat([self.up4_3(x, eighth), level3], dim=1))
        x = self.decoder_level3(x, quarter)  # N 4dim H/4 W/4

        prompt, weights2 = self.prompt2(x, quarter)
        x = interact(x, prompt, self.noise_level2, self.reduce_noise_level2, quarter)
        x = self.reduce_chan_level2(torch.cat([self.up3_2(x, quarter), level2], dim=1))
        x = self.decoder_level2(x, half)  # N 2dim H/2 W/2

        prompt, weights1 = self.prompt1(x, half)
        x = interact(x, prompt, self.noise_level1, self.reduce_noise_level1, half)
        x = torch.cat([self.up2_1(x, half), level1], dim=1)
        x = self.refinement(self.decoder_level1(x, full), full)  # N 2dim H W
        return widened(self.output(kept(x, full))) + image, torch.stack([weights3, weights2, weights1], dim=1)


class WithPromptWeights(nn.Module):
    """A PromptIR whose call is its `weighed`: what is exported, compiled and recorded is a module's call."""

    def __init__(self, network: PromptIR) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, image: Tensor, height: Tensor | None = None, width: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.network.weighed(image, height, width)


def channels_last(network: PromptIR) -> PromptIR:
    """Lay out the convolution weights of `network` channels last, in place: faster on CPUs and tensor cores alike."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # alone: the prompts have five axes, and no such layout
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


class PatchEmbedding(nn.Module):
    """Image (N, 3, H, W) -> overlapping 3x3 embeddings (N, dim, H, W)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = conv3x3(IMAGE_CHANNELS, dim)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image)
