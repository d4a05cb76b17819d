"""Degradations made on the fly: every module registers its own by importing it here."""

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
