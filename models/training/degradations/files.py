"""Degradations caused by files: JPEG compression and resizing, alone and after noise."""

import cv2
import numpy as np

from models.training.degradations.base import Degrade, Degraded, Image, degradation, labels, rounded_to_8_bits
from models.training.degradations.noise import random_noise

JPEG_QUALITY = (30, 97)
COARSE_JPEG_QUALITY = (8, 70)
FINE_JPEG_QUALITY = (70, 97)
FINE_SHARE = 0.25
LABELLED_JPEG_QUALITY = 85
"""Highest labelled quality; above it, artefacts are hardly visible."""
JPEG_BLOCK = 16
"""Side in pixels of a JPEG MCU with 4:2:0 subsampling: 2x2 luma blocks of 8x8 and one block per chroma channel."""

SAMPLINGS = {
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}
SAMPLING_ODDS = (0.5, 0.15, 0.35)
ALIGNED_SHARE = 0.6
"""Share of compressions whose blocks begin at the first pixel, as in a file as it was saved; others were cropped."""
TWICE_SHARE = 0.25
"""Share of JPEG images compressed twice, as messengers do."""

INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA)


def jpeg(quality: int, sampling: str = "4:2:0", *, aligned: bool = False) -> Degrade:
    """Return a degradation that compresses with JPEG `quality` (1 to 100) and chroma `sampling`, then decodes.

    Unless `aligned`, the block grid has a random offset, as in a cropped photo.
    """
    factor = SAMPLINGS[sampling]
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]

    def save(image: Image, rng: np.random.Generator) -> Image:
        top, left = (0, 0) if aligned else (int(offset) for offset in rng.integers(JPEG_BLOCK, size=2))
        samples = np.round(np.clip(image[..., ::-1], 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)
        shifted = cv2.copyMakeBorder(samples, top, 0, left, 0, cv2.BORDER_REFLECT_101)
        read = np.asarray(cv2.imdecode(cv2.imencode(".jpg", shifted, parameters)[1], cv2.IMREAD_COLOR_RGB), np.uint8)
        return read[top:, left:].astype(np.float32) / np.float32(255.0)

    return save


def random_jpeg(quality: tuple[int, int], rng: np.random.Generator) -> tuple[Degrade, str | None]:
    """Draw a JPEG compression, sometimes a double one; return it and its label."""

    def compression(level: int, sampling: str) -> Degrade:
        return jpeg(level, sampling, aligned=rng.random() < ALIGNED_SHARE)

    first = int(rng.integers(quality[0], quality[1] + 1))
    sampling = str(rng.choice(list(SAMPLINGS), p=SAMPLING_ODDS))
    label = "jpeg" if first <= LABELLED_JPEG_QUALITY else None
    once = compression(first, sampling)
    if rng.random() >= TWICE_SHARE:
        return once, label
    again = compression(int(rng.integers(max(quality[0], 60), quality[1] + 1)), "4:2:0")
    return lambda image, generator: again(once(image, generator), generator), label


@degradation("jpeg", share=0.20)
def jpeg_pair(clean: Image, rng: np.random.Generator) -> Degraded:
    """Apply JPEG compression alone."""
    save, label = random_jpeg(FINE_JPEG_QUALITY if rng.random() < FINE_SHARE else COARSE_JPEG_QUALITY, rng)
    return Degraded(save(clean, rng), clean, labels(label))


@degradation("noise_jpeg", share=0.13)
def noise_jpeg(clean: Image, rng: np.random.Generator) -> Degraded:
    """Apply noise, then JPEG compression, as in most noisy photos."""
    noisy = random_noise(rng)(clean, rng)
    save, label = random_jpeg(JPEG_QUALITY, rng)
    return Degraded(save(noisy, rng), clean, labels("noise", label))


@degradation("resized_noise", share=0.03)
def resized_noise(clean: Image, rng: np.random.Generator) -> Degraded:
    """Add noise, then resize; the target is also resized, to have the same loss of detail."""
    height, width = clean.shape[:2]
    scale = float(rng.uniform(0.6, 1.6))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    forth, back = (int(rng.choice(INTERPOLATIONS)) for _ in range(2))

    def resized(image: Image) -> Image:
        there = cv2.resize(image, size, interpolation=forth)
        return np.clip(cv2.resize(there, (width, height), interpolation=back), 0.0, 1.0).astype(np.float32)

    noisy = resized(random_noise(rng)(clean, rng))
    save, label = random_jpeg((60, 97), rng) if rng.random() < 0.4 else (None, None)
    target = rounded_to_8_bits(resized(clean))
    return Degraded(save(noisy, rng) if save else rounded_to_8_bits(noisy), target, labels("noise", label))
