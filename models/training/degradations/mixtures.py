"""Combinations of two or more degradations."""

import numpy as np

from models.training.degradations.base import Degraded, Image, degradation, labels
from models.training.degradations.files import JPEG_QUALITY, random_jpeg
from models.training.degradations.noise import random_noise
from models.training.degradations.weather import deep_haze, falling_rain, fine_rain, haze, heavy_rain, rain

PHOTO_JPEG_QUALITY = (50, 95)


@degradation("rain_jpeg", share=0.10)
def rain_jpeg(clean: Image, rng: np.random.Generator) -> Degraded:
    """Apply rain, then JPEG compression: photos of rain nearly always arrive compressed."""
    fall = (fine_rain, falling_rain, rain, heavy_rain)[rng.choice(4, p=(0.35, 0.35, 0.15, 0.15))]
    save, label = random_jpeg(PHOTO_JPEG_QUALITY, rng)
    return Degraded(save(fall(clean, rng), rng), clean, labels("rain", label))


@degradation("haze_jpeg", share=0.06, whole_scenes=0.7)
def haze_jpeg(clean: Image, rng: np.random.Generator) -> Degraded:
    """Apply haze, then JPEG compression, as in most photos of haze."""
    save, label = random_jpeg(PHOTO_JPEG_QUALITY, rng)
    return Degraded(save((haze if rng.random() < 0.4 else deep_haze)(clean, rng), rng), clean, labels("haze", label))


@degradation("mixture", share=0.08, whole_scenes=0.5)
def mixture(clean: Image, rng: np.random.Generator) -> Degraded:
    """Apply rain or haze or both, then noise or JPEG compression."""
    present: list[str | None] = []
    image = clean
    weather = int(rng.integers(4))
    if weather in (0, 3):
        image = (haze if rng.random() < 0.5 else deep_haze)(image, rng)
        present.append("haze")
    if weather in (1, 2, 3):
        image = (rain if rng.random() < 0.7 else heavy_rain)(image, rng)
        present.append("rain")
    after = rng.random()
    if weather != 3 or after < 0.5:
        if after < 0.5:
            image = random_noise(rng)(image, rng)
            present.append("noise")
        if after >= 0.25:
            save, label = random_jpeg(JPEG_QUALITY, rng)
            image = save(image, rng)
            present.append(label)
    return Degraded(image, clean, labels(*present))
