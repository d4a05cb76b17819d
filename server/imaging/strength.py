"""Strength of a restoration, from 0 (the input) to 1 (the network's output)."""

import cv2
import numpy as np

from server.backends.base import Pixels
from server.errors import InvalidRequest


def check_strength(strength: float) -> float:
    """Return `strength`; raise `InvalidRequest` unless it lies in 0..1 (NaN does not)."""
    if not 0 <= strength <= 1:
        raise InvalidRequest(f"strength must be from 0 to 1, not {strength}.")
    return strength


def blend(original: Pixels, restored: Pixels, strength: float) -> Pixels:
    """Blend (3, H, W) input pixels with the restored ones, on gamma-coded values as stored.

    0 gives exactly `original` and 1 exactly `restored`; in between, restored values are first clipped to [0, 1], as
    they are in a file of strength 1.
    """
    if strength == 0:
        return original
    if strength == 1:
        return restored
    mixed = np.empty_like(original)
    for before, after, target in zip(original, restored, mixed, strict=True):
        # One pass in C; numpy would allocate three temporaries.
        cv2.addWeighted(before, 1 - strength, np.clip(after, 0, 1), strength, 0.0, dst=target)
    return mixed
