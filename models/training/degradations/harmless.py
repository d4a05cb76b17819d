"""Pictures that should be left unchanged: clean, soft, low-contrast and flat ones."""

import cv2
import numpy as np

from models.training.degradations.base import Degraded, Image, degradation, labels, rounded_to_8_bits
from models.training.degradations.files import jpeg
from models.training.degradations.noise import noise, random_noise
from models.training.degradations.weather import _motion_kernel


@degradation("clean", share=0.13, whole_scenes=0.5)
def clean_pair(clean: Image, rng: np.random.Generator) -> Degraded:
    """Return the photo unchanged, as both input and target."""
    return Degraded(clean, clean)


@degradation("low_contrast", share=0.025, whole_scenes=0.5)
def low_contrast(clean: Image, rng: np.random.Generator) -> Degraded:
    """Lower the contrast or brightness of a photo without haze.

    Highlights become dim, whereas haze leaves them bright; otherwise the two would be indistinguishable.
    """
    low = rng.uniform(0.02, 0.12) if rng.random() < 0.4 else 0.0
    high = rng.uniform(0.3, 0.75)
    target = rounded_to_8_bits(low + (high - low) * clean ** rng.uniform(0.8, 1.6))
    if rng.random() < 0.5:
        return Degraded(target, target)
    return Degraded(noise(float(rng.uniform(5.0, 30.0)))(target, rng), target, labels("noise"))


@degradation("soft", share=0.04)
def soft(clean: Image, rng: np.random.Generator) -> Degraded:
    """Blur a photo like defocus or motion, perhaps with noise. The target keeps the blur, which is often intended."""
    if rng.random() < 0.7:
        blurred = cv2.GaussianBlur(clean, (0, 0), rng.uniform(0.6, 2.0))
    else:
        kernel = _motion_kernel(2 * int(rng.integers(1, 5)) + 1, float(rng.uniform(0.0, 180.0)), 0.5)
        blurred = cv2.filter2D(clean, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)
    target = rounded_to_8_bits(blurred)
    if rng.random() < 0.4:
        return Degraded(target, target)
    return Degraded(random_noise(rng)(target, rng), target, labels("noise"))


@degradation("flat", share=0.05)
def flat(clean: Image, rng: np.random.Generator) -> Degraded:
    """Make a flat field or gradient of any colour, clean, noisy or compressed."""
    target = _flat_or_gradient(clean.shape[0], clean.shape[1], rng)
    kind = rng.random()
    if kind < 0.55:
        return Degraded(target, target)
    if kind < 0.7:
        return Degraded(jpeg(int(rng.integers(30, 97)))(target, rng), target)
    return Degraded(random_noise(rng)(target, rng), target, labels("noise"))


def _flat_or_gradient(height: int, width: int, rng: np.random.Generator) -> Image:
    channels = 1 if rng.random() < 0.4 else 3  # grey or coloured
    colour = np.broadcast_to(rng.random((1, 1, channels), dtype=np.float32), (1, 1, 3))
    if rng.random() < 0.4:
        colour = np.clip(1.6 * colour - 0.3, 0.0, 1.0)  # reaches 0 and 1, for saturated colours, black and white
    corners = np.repeat(colour, 4, axis=0).reshape(2, 2, 3)
    if rng.random() < 0.4:
        corners = np.clip(corners + rng.normal(0.0, 0.2, (2, 2, 3)), 0.0, 1.0).astype(np.float32)
    field = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)
    return rounded_to_8_bits(field)
