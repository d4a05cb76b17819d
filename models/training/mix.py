"""Relative frequencies at which degradations are drawn."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from models.training.degradations import REGISTRY, Degradation


def default_shares() -> dict[str, float]:
    """Return the default relative frequency of every registered degradation."""
    return {entry.name: entry.share for entry in REGISTRY.values()}


@dataclass(frozen=True)
class Mix:
    """Relative frequencies of degradations by name; raises `ValueError` for unknown names and negative values."""

    shares: Mapping[str, float] = field(default_factory=default_shares)

    def __post_init__(self) -> None:
        unknown = sorted(self.shares.keys() - REGISTRY.keys())
        if unknown:
            raise ValueError(f"unknown degradation {unknown[0]!r}; known degradations: {', '.join(REGISTRY)}")
        if any(share < 0 or not math.isfinite(share) for share in self.shares.values()):
            raise ValueError(f"shares must be finite and not negative, got {dict(self.shares)}")
        if not sum(self.shares.values()) > 0:
            raise ValueError("at least one degradation needs a share above zero")

    def draw(self, rng: np.random.Generator) -> Degradation:
        """Draw a degradation."""
        names = list(self.shares)
        odds = np.array([self.shares[name] for name in names], np.float64)
        return REGISTRY[names[rng.choice(len(names), p=odds / odds.sum())]]

    @classmethod
    def adjusted(cls, changes: Mapping[str, float]) -> "Mix":
        """Return the default mix with some shares replaced."""
        return cls({**default_shares(), **changes})
