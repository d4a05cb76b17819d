"""Noise: white, correlated, signal-dependent as in a camera, and film grain."""

import cv2
import numpy as np

from models.training.degradations.base import (
    Degrade,
    Degraded,
    Image,
    degradation,
    labels,
    log_uniform,
    rounded_to_8_bits,
)

NOISE_LEVELS = (15, 25, 50)
"""Standard deviations of the paper's Gaussian noise, on the 0..255 scale."""
NOISE_LEVEL_ODDS = (0.2, 0.22, 0.58)
"""Heavy noise is drawn most often, because it has the most left to learn."""
IN_BETWEEN_SIGMA = (1.0, 55.0)
VISIBLE_SIGMA = 4.0
"""Noise below this level is invisible, so it is not labelled."""

CORRELATION_SIGMA = (0.4, 1.3)
"""Blur of correlated noise, in pixels."""
GAMMA = 2.2
PHOTON_GAIN = (0.0008, 0.02)
"""Variance of photon noise per unit of linear light."""
READ_NOISE = (0.001, 0.02)
"""Standard deviation of read noise in linear light."""
BAYER_MIDDLE = 32768


def noise(sigma: float) -> Degrade:
    """Return a degradation that adds white Gaussian noise of standard deviation `sigma` (0..255 scale)."""

    def degrade(clean: Image, rng: np.random.Generator) -> Image:
        sample = rng.standard_normal(clean.shape, dtype=np.float32)
        return rounded_to_8_bits(clean + sample * np.float32(sigma / 255.0))

    return degrade


def correlated_noise(sigma: float, blur: float) -> Degrade:
    """Return a degradation that adds Gaussian noise blurred by `blur` pixels; `sigma` is the blurred deviation."""

    def degrade(clean: Image, rng: np.random.Generator) -> Image:
        sample = cv2.GaussianBlur(rng.standard_normal(clean.shape, dtype=np.float32), (0, 0), blur)
        return rounded_to_8_bits(clean + sample * np.float32(sigma / 255.0 / _deviation_after(blur)))

    return degrade


def _deviation_after(blur: float) -> float:
    """Standard deviation of unit white noise after a Gaussian blur."""
    kernel = cv2.getGaussianKernel(2 * int(np.ceil(4 * blur)) + 1, blur)
    return float((kernel**2).sum())


def camera_noise(gain: float, read: float, *, bayer: bool, blur: float = 0.0) -> Degrade:
    """Return a degradation that adds photon noise (`gain`) and read noise (`read`) in linear light.

    With `bayer` the noise is demosaiced bilinearly, which correlates neighbours and colours the noise; it is then
    blurred with a sigma of `blur` pixels.
    """

    def degrade(clean: Image, rng: np.random.Generator) -> Image:
        linear = clean**GAMMA
        deviation = np.sqrt(gain * linear + read * read)
        sample = deviation * rng.standard_normal(clean.shape, dtype=np.float32)
        if bayer:
            sample = _demosaiced(sample)
        if blur:
            sample = cv2.GaussianBlur(sample, (0, 0), blur)
        return rounded_to_8_bits(np.clip(linear + sample, 0.0, 1.0) ** (1.0 / GAMMA))

    return degrade


def _demosaiced(sample: Image) -> Image:
    """Keep one colour per pixel, as in a Bayer pattern, and interpolate the others bilinearly."""
    scale = np.float32(BAYER_MIDDLE / 2)
    mosaic = sample[..., 1].copy()
    mosaic[0::2, 0::2] = sample[0::2, 0::2, 0]
    mosaic[1::2, 1::2] = sample[1::2, 1::2, 2]
    counts = np.clip(mosaic * scale + BAYER_MIDDLE, 0, 2 * BAYER_MIDDLE - 1).astype(np.uint16)
    colours = np.asarray(cv2.cvtColor(counts, cv2.COLOR_BAYER_RG2RGB), np.float32)
    return (colours - np.float32(BAYER_MIDDLE)) / scale


def random_noise(rng: np.random.Generator) -> Degrade:
    """Draw white, correlated or camera noise of random strength."""
    kind = rng.random()
    if kind < 0.45:
        return noise(float(rng.uniform(5.0, 55.0)))
    if kind < 0.7:
        return correlated_noise(float(rng.uniform(5.0, 35.0)), float(rng.uniform(*CORRELATION_SIGMA)))
    return random_camera_noise(rng)


def random_camera_noise(rng: np.random.Generator) -> Degrade:
    """Draw camera noise for light conditions from bright to night."""
    gain, read = log_uniform(*PHOTON_GAIN, rng), log_uniform(*READ_NOISE, rng)
    blur = float(rng.uniform(0.3, 0.9)) if rng.random() < 0.4 else 0.0
    return camera_noise(gain, read, bayer=bool(rng.integers(2)), blur=blur)


@degradation("gaussian", share=0.24)
def gaussian(clean: Image, rng: np.random.Generator) -> Degraded:
    """Add white Gaussian noise at the paper's three levels or in between."""
    if rng.random() < 0.7:
        sigma = float(rng.choice(NOISE_LEVELS, p=NOISE_LEVEL_ODDS))
    else:
        sigma = float(rng.uniform(*IN_BETWEEN_SIGMA))
    return Degraded(noise(sigma)(clean, rng), clean, labels("noise" if sigma >= VISIBLE_SIGMA else None))


@degradation("correlated", share=0.06)
def correlated(clean: Image, rng: np.random.Generator) -> Degraded:
    """Add spatially correlated noise, as after resizing or in-camera smoothing."""
    degrade = correlated_noise(float(rng.uniform(5.0, 35.0)), float(rng.uniform(*CORRELATION_SIGMA)))
    return Degraded(degrade(clean, rng), clean, labels("noise"))


@degradation("camera", share=0.08)
def camera(clean: Image, rng: np.random.Generator) -> Degraded:
    """Add photon and read noise, with or without demosaicing."""
    return Degraded(random_camera_noise(rng)(clean, rng), clean, labels("noise"))


@degradation("grain", share=0.03)
def grain(clean: Image, rng: np.random.Generator) -> Degraded:
    """Add the grain of a scanned print: monochrome, clumped and strongest in the midtones."""
    height, width = clean.shape[:2]
    fine = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (0, 0), rng.uniform(0.4, 0.8))
    coarse = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (0, 0), rng.uniform(1.0, 2.0))
    clumps = (fine / fine.std() + rng.uniform(0.2, 0.8) * coarse / coarse.std())[..., None]
    target = cv2.cvtColor(cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) if rng.random() < 0.5 else clean
    target = np.asarray(target, np.float32)
    strength = rng.uniform(6.0, 25.0) / 255.0 * (0.4 + 2.4 * target * (1.0 - target))
    return Degraded(rounded_to_8_bits(target + strength * clumps), target, labels("noise"))
