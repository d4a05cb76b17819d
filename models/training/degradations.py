"""Degradations: the three ways PromptIR's training spoils a clean photo, and the file it is saved in, on the fly.

Every function takes a clean image (H, W, 3), float32 in [0, 1], and a numpy generator, and returns a new image of the
same shape, rounded to 8 bits as a camera's file would be. The same seed gives the same image.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Degrade = Callable[[Image, np.random.Generator], Image]

NOISE_LEVELS = (15, 25, 50)
"""Standard deviations of the paper's Gaussian noise, on the 0..255 scale."""

RAIN_LAYERS = (1, 2)
STREAK_LENGTH = (11, 61)
STREAK_WIDTH = (0.5, 1.2)
STREAK_ANGLE_DEGREES = (-30.0, 30.0)
STREAKS_PER_PIXEL = (0.0002, 0.002)
STREAK_BRIGHTNESS = (0.25, 0.75)

HAZE_AIRLIGHT = (0.75, 1.0)
HAZE_AIRLIGHT_TINT = 0.03
HAZE_OPTICAL_DEPTH = (0.3, 1.8)
HAZE_NEAREST_DEPTH = (0.1, 0.5)

JPEG_QUALITY = (60, 97)
JPEG_BLOCK = 16
"""Pixels of a JPEG's largest unit: 2x2 blocks of 8x8 that share one block of halved colour."""


def noise(sigma: float) -> Degrade:
    """Additive white Gaussian noise of standard deviation `sigma` (0..255 scale)."""

    def degrade(clean: Image, rng: np.random.Generator) -> Image:
        sample = rng.standard_normal(clean.shape, dtype=np.float32)
        return _as_8_bit(clean + sample * np.float32(sigma / 255.0))

    return degrade


def rain(clean: Image, rng: np.random.Generator) -> Image:
    """Bright rain streaks in one to three layers, each with its own length, width, density and a common slant."""
    height, width = clean.shape[:2]
    slant = rng.uniform(*STREAK_ANGLE_DEGREES)
    streaks = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(RAIN_LAYERS[0], RAIN_LAYERS[1] + 1)):
        streaks += _rain_layer(height, width, slant + rng.uniform(-5.0, 5.0), rng)
    brightness = rng.uniform(*STREAK_BRIGHTNESS)
    veil = np.clip(streaks * brightness, 0.0, 1.0)[..., None]
    return _as_8_bit(clean + veil * (1.0 - 0.3 * clean))


def _rain_layer(height: int, width: int, angle_degrees: float, rng: np.random.Generator) -> Image:
    """One layer of streaks (H, W) in [0, 1]: sparse drops, drawn out along the wind by a motion blur."""
    length = int(rng.integers(STREAK_LENGTH[0], STREAK_LENGTH[1] + 1))
    margin = length  # streaks that begin outside the frame cross its border
    shape = (height + 2 * margin, width + 2 * margin)
    density = np.exp(rng.uniform(*np.log(STREAKS_PER_PIXEL)))  # light rain as often as heavy
    drops = (rng.random(shape, dtype=np.float32) < density).astype(np.float32)
    drops *= rng.uniform(0.4, 1.0, shape).astype(np.float32)
    streaks = cv2.filter2D(drops, -1, _motion_kernel(length, angle_degrees, rng.uniform(*STREAK_WIDTH)))
    return np.clip(streaks[margin : margin + height, margin : margin + width], 0.0, 1.0)


def _motion_kernel(length: int, angle_degrees: float, width: float) -> Image:
    """A line of `length` pixels through the centre, `angle_degrees` off the vertical, with a Gaussian profile."""
    half = length // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    angle = np.deg2rad(angle_degrees)
    along = y * np.cos(angle) + x * np.sin(angle)
    across = x * np.cos(angle) - y * np.sin(angle)
    line = np.exp(-0.5 * (across / width) ** 2) * np.clip(half + 0.5 - np.abs(along), 0.0, 1.0)
    return line.astype(np.float32)


def haze(clean: Image, rng: np.random.Generator) -> Image:
    """Atmospheric scattering, I = J t + A (1 - t), with transmission t = exp(-optical depth) of a depth-like map."""
    height, width = clean.shape[:2]
    airlight = rng.uniform(*HAZE_AIRLIGHT) + rng.uniform(-HAZE_AIRLIGHT_TINT, HAZE_AIRLIGHT_TINT, 3)
    transmission = np.exp(-rng.uniform(*HAZE_OPTICAL_DEPTH) * _depth(height, width, rng))[..., None]
    return _as_8_bit(clean * transmission + np.minimum(airlight, 1.0) * (1.0 - transmission))


def _depth(height: int, width: int, rng: np.random.Generator) -> Image:
    """A depth-like map (H, W) in (0, 1]: further towards the top, as outdoors, and undulating smoothly."""
    nearest = rng.uniform(*HAZE_NEAREST_DEPTH)
    ramp = np.linspace(1.0, 0.0, height, dtype=np.float32)[:, None] ** rng.uniform(0.6, 1.8)
    cells = rng.random((5, 5), dtype=np.float32)
    undulation = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    mix = rng.uniform(0.2, 0.6)
    relief = np.clip((1.0 - mix) * ramp + mix * undulation, 0.0, 1.0)
    return np.asarray(nearest + (1.0 - nearest) * relief, np.float32)


def as_jpeg(degrade: Degrade, quality: int, halved_colour: bool) -> Degrade:
    """`degrade`, then what a camera does next: saved as a JPEG, its colour at half or full resolution.

    `quality` is 1 to 100. Noise that has been through it is no longer independent from pixel to pixel. The blocks
    begin at a random pixel, as they do in a photo that is cut.
    """
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if halved_colour else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]

    def save(clean: Image, rng: np.random.Generator) -> Image:
        spoiled = degrade(clean, rng)
        top, left = (int(offset) for offset in rng.integers(JPEG_BLOCK, size=2))
        samples = np.round(spoiled[..., ::-1] * np.float32(255.0)).astype(np.uint8)
        shifted = cv2.copyMakeBorder(samples, top, 0, left, 0, cv2.BORDER_REFLECT_101)
        read = np.asarray(cv2.imdecode(cv2.imencode(".jpg", shifted, parameters)[1], cv2.IMREAD_COLOR_RGB), np.uint8)
        return read[top:, left:].astype(np.float32) / np.float32(255.0)

    return save


def _as_8_bit(image: NDArray[np.floating]) -> Image:
    return (np.round(np.clip(image, 0.0, 1.0) * 255.0) / 255.0).astype(np.float32)


EVALUATION: dict[str, Degrade] = {
    **{f"noise{sigma}": noise(sigma) for sigma in NOISE_LEVELS},
    "rain": rain,
    "haze": haze,
    "noise25jpeg": as_jpeg(noise(25), quality=90, halved_colour=True),
}
"""Every degradation that is evaluated, by the name it has in reports."""
