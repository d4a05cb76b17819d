"""Registry of named degradations that turn a clean picture into a training pair.

Pictures are (H, W, 3) float32 in [0, 1]. The same picture and generator state give the same result.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Degrade = Callable[[Image, np.random.Generator], Image]

WHOLE_SCENES = 0.25
"""Share of whole-scene patches for most degradations; if only haze had them, the network would take scale for haze."""

NO_LABELS: frozenset[str] = frozenset()


class Degraded(NamedTuple):
    """Training pair with the labels of its degradations."""

    image: Image
    """Input of the network."""
    target: Image
    """Expected output: the clean picture unless the degradation defines another."""
    labels: frozenset[str] = NO_LABELS
    """Subset of `models.degradation_head.LABELS`; empty for a picture that should be left unchanged."""


Make = Callable[[Image, np.random.Generator], Degraded]


@dataclass(frozen=True)
class Degradation:
    """Entry of the registry."""

    name: str
    share: float
    """Relative frequency in the default mix."""
    make: Make
    whole_scenes: float
    """Share of patches that show a whole downscaled scene: small crops have too little depth for haze."""


REGISTRY: dict[str, Degradation] = {}
"""All degradations by name, in order of registration."""


def degradation(name: str, share: float, *, whole_scenes: float = WHOLE_SCENES) -> Callable[[Make], Make]:
    """Register the decorated function as the degradation `name`, drawn with the relative frequency `share`."""

    def register(make: Make) -> Make:
        if name in REGISTRY:
            raise ValueError(f"degradation {name!r} is registered twice")
        REGISTRY[name] = Degradation(name, share, make, whole_scenes)
        return make

    return register


def labels(*present: str | None) -> frozenset[str]:
    """Collect the labels that are not None."""
    return frozenset(label for label in present if label is not None)


def in_sequence(image: Image, steps: Iterable[Degrade], rng: np.random.Generator) -> Image:
    """Apply several degradations one after another."""
    for step in steps:
        image = step(image, rng)
    return image


def rounded_to_8_bits(image: NDArray[np.floating]) -> Image:
    """Clip to [0, 1] and round to multiples of 1/255, as in an 8-bit file."""
    return (np.round(np.clip(image, 0.0, 1.0) * 255.0) / 255.0).astype(np.float32)


def log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    """Draw a number whose logarithm is uniformly distributed."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
