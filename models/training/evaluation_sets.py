"""Degradations of known strength, for validation and evaluation."""

import cv2
import numpy as np

from models.training.degradations.base import Degrade, Image, in_sequence
from models.training.degradations.files import jpeg
from models.training.degradations.noise import NOISE_LEVELS, camera_noise, correlated_noise, noise
from models.training.degradations.weather import haze, rain

CORRELATED_SIGMA, CORRELATED_BLUR = 15.0, 0.8
PHOTON_GAIN, READ_NOISE, SENSOR_BLUR = 0.012, 0.006, 0.5


def _then_jpeg(first: Degrade, quality: int) -> Degrade:
    def degrade(clean: Image, rng: np.random.Generator) -> Image:
        return in_sequence(clean, (first, jpeg(quality, aligned=True)), rng)

    return degrade


def _unchanged(clean: Image, rng: np.random.Generator) -> Image:
    return clean


EVALUATION: dict[str, Degrade] = {
    **{f"noise{sigma}": noise(sigma) for sigma in NOISE_LEVELS},
    "rain": rain,
    "haze": haze,
    "noise25-jpeg85": _then_jpeg(noise(25), 85),
    "correlated15": correlated_noise(CORRELATED_SIGMA, CORRELATED_BLUR),
    "signal-dependent": camera_noise(PHOTON_GAIN, READ_NOISE, bayer=False, blur=SENSOR_BLUR),
    "jpeg20": jpeg(20, aligned=True),
    "jpeg40": jpeg(40, aligned=True),
    "clean": _unchanged,
}
"""Every evaluated degradation, by its name in reports."""

VALIDATION = {kind: EVALUATION[kind] for kind in EVALUATION if kind != "jpeg40"}
"""Degradations used for validation during a run."""


def fast_nl_means(image: Image, strength: float = 12.0) -> Image:
    """Denoise with OpenCV's non-local means, the classical baseline."""
    samples = np.round(image * 255.0).astype(np.uint8)
    restored = cv2.fastNlMeansDenoisingColored(samples, None, strength, strength)
    return restored.astype(np.float32) / np.float32(255.0)
