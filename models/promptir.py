"""PromptIR network.

Source: PromptIR (NeurIPS 2023, arXiv 2306.13090), section 3 and figure 2. Attribute names match the published
checkpoints.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from models.layers import Downsample, Level, TransformerBlock, Upsample, conv1x1, conv3x3, widened
from models.prompt import PromptGeneration, interact
from models.restoration import IMAGE_CHANNELS, Outputs, RestorationNetwork
from models.validity import EVERYWHERE, Validity, kept, scales

PROMPT_LEVELS = 3
"""Number of decoder levels with a prompt block."""


@dataclass(frozen=True)
class PromptIRConfig:
    """Hyperparameters of a PromptIR network.

    `blocks` and `heads` are ordered from full resolution to the latent; `prompt_channels` and `prompt_sizes` from the
    finest decoder level to the coarsest.
    """

    dim: int = 48
    blocks: tuple[int, int, int, int] = (4, 6, 6, 8)
    refinement_blocks: int = 4
    heads: tuple[int, int, int, int] = (1, 2, 4, 8)
    ffn_expansion: float = 2.66
    prompt_channels: tuple[int, int, int] = (64, 128, 320)
    prompt_sizes: tuple[int, int, int] = (64, 32, 16)
    prompt_components: int = 5
    prompts: bool = True
    """False omits the prompt blocks, for the ablation in docs/training.md."""
    unused_convolutions: bool = False
    """Include the six convolutions of published checkpoints that the forward pass does not use."""


class PromptIR(RestorationNetwork):
    """Network of the paper: a U-shaped transformer with prompt blocks at three decoder levels."""

    def __init__(self, config: PromptIRConfig) -> None:
        super().__init__()
        self.config = config
        self.prompt_shape = (PROMPT_LEVELS, config.prompt_components) if config.prompts else None
        dim, heads, blocks = config.dim, config.heads, config.blocks

        def level(channels: int, level_heads: int, count: int) -> Level:
            return Level(*(TransformerBlock(channels, level_heads, config.ffn_expansion) for _ in range(count)))

        self.patch_embed = PatchEmbedding(dim)
        self.encoder_level1 = level(dim, heads[0], blocks[0])
        self.down1_2 = Downsample(dim)
        self.encoder_level2 = level(dim * 2, heads[1], blocks[1])
        self.down2_3 = Downsample(dim * 2)
        self.encoder_level3 = level(dim * 4, heads[2], blocks[2])
        self.down3_4 = Downsample(dim * 4)
        self.latent = level(dim * 8, heads[3], blocks[3])

        self._add_prompt_block(3, dim * 8, dim * 4)
        self.up4_3 = Upsample(dim * 4)
        self.reduce_chan_level3 = conv1x1(dim * 6, dim * 4)
        self.decoder_level3 = level(dim * 4, heads[2], blocks[2])

        self._add_prompt_block(2, dim * 4, dim * 4)
        self.up3_2 = Upsample(dim * 4)
        self.reduce_chan_level2 = conv1x1(dim * 4, dim * 2)
        self.decoder_level2 = level(dim * 2, heads[1], blocks[1])

        self._add_prompt_block(1, dim * 2, dim * 2)
        self.up2_1 = Upsample(dim * 2)
        self.decoder_level1 = level(dim * 2, heads[0], blocks[0])
        self.refinement = level(dim * 2, heads[0], config.refinement_blocks)
        self.output = conv3x3(dim * 2, IMAGE_CHANNELS)

        if config.unused_convolutions:
            self._add_unused_convolutions()

    def _add_prompt_block(self, level: int, channels: int, out_channels: int) -> None:
        """Add prompt generation and interaction at decoder level `level` (1: finest), under the published names."""
        config = self.config
        mixed = channels
        if config.prompts:
            prompt_channels, size = config.prompt_channels[level - 1], config.prompt_sizes[level - 1]
            mixed += prompt_channels
            generation = PromptGeneration(channels, prompt_channels, config.prompt_components, size)
            self.add_module(f"prompt{level}", generation)
            # All three interaction blocks use the head count of level 3, as published.
            block = TransformerBlock(mixed, config.heads[2], config.ffn_expansion)
            self.add_module(f"noise_level{level}", block)
        self.add_module(f"reduce_noise_level{level}", conv1x1(mixed, out_channels))

    def _add_unused_convolutions(self) -> None:
        dim, (prompt1, prompt2, prompt3) = self.config.dim, self.config.prompt_channels
        self.chnl_reduce1 = conv1x1(prompt1, prompt1)
        self.chnl_reduce2 = conv1x1(prompt2, prompt2)
        self.chnl_reduce3 = conv1x1(prompt3, prompt3 - 64)
        self.reduce_noise_channel_1 = conv1x1(dim + prompt1, dim)
        self.reduce_noise_channel_2 = conv1x1(dim * 2 + prompt2, dim * 2)
        self.reduce_noise_channel_3 = conv1x1(dim * 4 + prompt3 - 64, dim * 4)

    def outputs(self, image: Tensor, height: Tensor | None = None, width: Tensor | None = None) -> Outputs:
        dtype = self.output.weight.dtype
        full, half, quarter, eighth = (
            EVERYWHERE if height is None or width is None else scales(image, height, width, dtype)
        )
        level1 = self.encoder_level1(self.patch_embed(kept(image.to(dtype), full)), full)  # N dim H W
        level2 = self.encoder_level2(self.down1_2(level1, full), half)  # N 2dim H/2 W/2
        level3 = self.encoder_level3(self.down2_3(level2, half), quarter)  # N 4dim H/4 W/4
        latent = self.latent(self.down3_4(level3, quarter), eighth)  # N 8dim H/8 W/8

        weights: list[Tensor] = []
        x = self._prompted(3, latent, eighth, weights)
        x = self.reduce_chan_level3(torch.cat([self.up4_3(x, eighth), level3], dim=1))
        x = self.decoder_level3(x, quarter)  # N 4dim H/4 W/4

        x = self._prompted(2, x, quarter, weights)
        x = self.reduce_chan_level2(torch.cat([self.up3_2(x, quarter), level2], dim=1))
        x = self.decoder_level2(x, half)  # N 2dim H/2 W/2

        x = self._prompted(1, x, half, weights)
        x = torch.cat([self.up2_1(x, half), level1], dim=1)
        x = self.refinement(self.decoder_level1(x, full), full)  # N 2dim H W
        restored = widened(self.output(kept(x, full))) + image
        return Outputs(restored, torch.stack(weights, dim=1) if weights else None)

    def _prompted(self, level: int, x: Tensor, valid: Validity | None, weights: list[Tensor]) -> Tensor:
        """Mix the prompt of decoder level `level` into its features, and append its weights to `weights`."""
        reduce = cast(nn.Conv2d, getattr(self, f"reduce_noise_level{level}"))
        if not self.config.prompts:
            return reduce(x)
        prompt, level_weights = getattr(self, f"prompt{level}")(x, valid)
        weights.append(level_weights)
        return interact(x, prompt, getattr(self, f"noise_level{level}"), reduce, valid)


class PatchEmbedding(nn.Module):
    """Image (N, 3, H, W) -> overlapping 3x3 embeddings (N, dim, H, W)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = conv3x3(IMAGE_CHANNELS, dim)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image)
