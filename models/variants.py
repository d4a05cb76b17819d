"""Named network configurations, and networks built from them."""

from dataclasses import replace

from models.naf import PromptNAF, PromptNAFConfig
from models.promptir import PromptIR, PromptIRConfig
from models.restoration import RestorationNetwork

NetworkConfig = PromptIRConfig | PromptNAFConfig

COMPACT = PromptIRConfig(dim=16, blocks=(1, 2, 2, 2), refinement_blocks=1, prompt_channels=(16, 32, 64))
NAF = PromptNAFConfig()
SHALLOW = PromptNAFConfig(latent_blocks=6, decoder_blocks=(2, 2, 4))

VARIANTS: dict[str, NetworkConfig] = {
    "promptir": PromptIRConfig(unused_convolutions=True),
    "promptir-compact": COMPACT,
    "promptir-compact-without-prompts": replace(COMPACT, prompts=False),
    "promptir-tiny": PromptIRConfig(
        dim=8, blocks=(1, 1, 1, 1), refinement_blocks=1, prompt_channels=(8, 16, 32), prompt_sizes=(16, 8, 4)
    ),
    "promptnaf": NAF,
    "promptnaf-shallow": SHALLOW,
    "promptnaf-shallow-without-prompts": replace(SHALLOW, prompts=False),
    "promptnaf-wide": replace(
        NAF, dim=24, encoder_blocks=(1, 2, 2), latent_blocks=4, decoder_blocks=(1, 2, 2), prompt_channels=(24, 48, 96)
    ),
    "promptnaf-slim": replace(SHALLOW, dim=12, prompt_channels=(12, 24, 48)),
    "promptnaf-tiny": PromptNAFConfig(
        dim=8,
        encoder_blocks=(1, 1, 1),
        latent_blocks=1,
        decoder_blocks=(1, 1, 1),
        prompt_channels=(8, 8, 16),
        prompt_sizes=(16, 8, 4),
    ),
}
"""The paper's network, the default, the alternatives compared in docs/training.md, and two small ones for tests."""


def variant(name: str) -> NetworkConfig:
    """Return the configuration called `name`; raise `ValueError` listing the known names."""
    try:
        return VARIANTS[name]
    except KeyError:
        raise ValueError(f"unknown network variant {name!r}; known variants: {', '.join(sorted(VARIANTS))}") from None


def build(config: NetworkConfig) -> RestorationNetwork:
    """Build the network of `config` with random initial weights."""
    return PromptIR(config) if isinstance(config, PromptIRConfig) else PromptNAF(config)
