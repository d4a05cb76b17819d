"""Strength: the mix of an image with its restoration, from 0 (the input) to 1 (the network's output)."""

import cv2
import numpy as np

from server.backends.base import Pixels
from server.errors import InvalidRequest


def check_strength(strength: float) -> float:
    """Return `strength` if it is in 0..1; else (and for NaN) raises InvalidRequest."""
    if not 0 <= strength <= 1:
        raise InvalidRequest(f"strength must be from 0 to 1, not {strength}.")
    return strength


def blend(original: Pixels, restored: Pixels, strength: float) -> Pixels:
    """Mix (3, H, W) pixels of the input and the restoration, on the stored (gamma-coded) values.

    0 returns exactly `original` and 1 exactly `restored`. In between, network outputs outside [0, 1] are clipped, as
    they would be in a file.
    """
    if strength == 0:
        return original
    if strength == 1:
        return restored
    mixed = np.empty_like(original)
    for before, after, target in zip(original, restored, mixed, strict=True):
        # One pass in C, where NumPy would allocate three temporary arrays.
        cv2.addWeighted(before, 1 - strength, np.clip(after, 0, 1), strength, 0.0, dst=target)
    return mixed
