"""Synthetic degradations; importing each module registers its degradations."""

from models.training.degradations import files, harmless, mixtures, noise, weather
from models.training.degradations.base import REGISTRY, Degradation, Degrade, Degraded, Image

__all__ = [
    "REGISTRY",
    "Degradation",
    "Degrade",
    "Degraded",
    "Image",
    "files",
    "harmless",
    "mixtures",
    "noise",
    "weather",
]
