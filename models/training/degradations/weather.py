"""Rain and haze."""

import cv2
import numpy as np
from numpy.typing import NDArray

from models.training.degradations.base import (
    Degrade,
    Degraded,
    Image,
    degradation,
    labels,
    log_uniform,
    rounded_to_8_bits,
)

RAIN_LAYERS = (1, 2)
STREAK_LENGTH = (11, 61)
STREAK_WIDTH = (0.5, 1.2)
STREAK_ANGLE_DEGREES = (-30.0, 30.0)
STREAKS_PER_PIXEL = (0.0002, 0.002)
STREAK_BRIGHTNESS = (0.25, 0.75)

HEAVY_LAYERS = (2, 5)
HEAVY_STREAKS_PER_PIXEL = (0.001, 0.012)
HEAVY_BRIGHTNESS = (0.2, 0.9)
HEAVY_VEIL = (0.05, 0.4)

FINE_LAYERS = (1, 4)
FINE_STREAK_LENGTH = (5, 27)
FINE_STREAKS_PER_PIXEL = (0.001, 0.015)
FINE_BRIGHTNESS = (0.1, 0.6)
FINE_VEIL = (0.05, 0.45)
VEIL_BRIGHTNESS = (0.6, 1.0)

FALLING_LAYERS = (3, 6)
FALLING_DISTANCE = (1.0, 5.0)
"""Distances of the layers, as multiples of the nearest one's: streaks are shorter, thinner, fainter and more by it."""
FALLING_LENGTH = (17.0, 90.0)
FALLING_WIDTH = 1.3
FALLING_STREAKS_PER_PIXEL = (0.0003, 0.004)
FALLING_BRIGHTNESS = (0.15, 0.9)
FALLING_SLANT_DEGREES = 12.0

HAZE_AIRLIGHT = (0.75, 1.0)
HAZE_AIRLIGHT_TINT = 0.03
HAZE_OPTICAL_DEPTH = (0.3, 1.8)
HAZE_NEAREST_DEPTH = (0.1, 0.5)

DEEP_AIRLIGHT = (0.6, 1.0)
DEEP_AIRLIGHT_TINT = 0.1
DEEP_OPTICAL_DEPTH = (0.4, 2.6)
GUIDE_EPSILON = 1e-3


def rain(clean: Image, rng: np.random.Generator) -> Image:
    """Add bright streaks in one or two layers with a common slant; length, width and density differ."""
    height, width = clean.shape[:2]
    slant = rng.uniform(*STREAK_ANGLE_DEGREES)
    streaks = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(RAIN_LAYERS[0], RAIN_LAYERS[1] + 1)):
        streaks += _rain_layer(height, width, slant + rng.uniform(-5.0, 5.0), STREAKS_PER_PIXEL, rng)
    brightness = rng.uniform(*STREAK_BRIGHTNESS)
    veil = np.clip(streaks * brightness, 0.0, 1.0)[..., None]
    return rounded_to_8_bits(clean + veil * (1.0 - 0.3 * clean))


def heavy_rain(clean: Image, rng: np.random.Generator) -> Image:
    """Add dense streaks in up to five layers, and often the veil of distant drops."""
    height, width = clean.shape[:2]
    slant = rng.uniform(*STREAK_ANGLE_DEGREES)
    spread = rng.uniform(0.0, 12.0)
    image = clean
    if rng.random() < 0.5:
        image = _veiled(image, HEAVY_VEIL, rng)
    brightness = rng.uniform(*HEAVY_BRIGHTNESS)
    streaks = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(HEAVY_LAYERS[0], HEAVY_LAYERS[1] + 1)):
        angle = slant + rng.uniform(-spread, spread)
        streaks += rng.uniform(0.5, 1.0) * _rain_layer(height, width, angle, HEAVY_STREAKS_PER_PIXEL, rng)
    added = np.clip(streaks * brightness, 0.0, 1.0)[..., None]
    return rounded_to_8_bits(image + added * (1.0 - rng.uniform(0.0, 0.5) * image))


def fine_rain(clean: Image, rng: np.random.Generator) -> Image:
    """Add rain as in small photos on the web: short, soft, faint streaks in up to four layers, often with a veil."""
    height, width = clean.shape[:2]
    image = clean
    if rng.random() < 0.6:
        image = _veiled(image, FINE_VEIL, rng)
    slant, spread = rng.uniform(*STREAK_ANGLE_DEGREES), rng.uniform(0.0, 8.0)
    streaks = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(FINE_LAYERS[0], FINE_LAYERS[1] + 1)):
        angle = slant + rng.uniform(-spread, spread)
        layer = _rain_layer(height, width, angle, FINE_STREAKS_PER_PIXEL, rng, FINE_STREAK_LENGTH)
        streaks += log_uniform(*FINE_BRIGHTNESS, rng) * cv2.GaussianBlur(layer, (0, 0), rng.uniform(0.2, 0.9))
    added = np.clip(streaks, 0.0, 1.0)[..., None]
    return rounded_to_8_bits(image + added * (rng.uniform(0.8, 1.0) - rng.uniform(0.3, 0.8) * image))


def falling_rain(clean: Image, rng: np.random.Generator) -> Image:
    """Add rain at several distances: few long bright streaks nearby, many short faint ones far away, often a veil."""
    height, width = clean.shape[:2]
    image = clean
    if rng.random() < 0.6:
        image = _veiled(image, FINE_VEIL, rng)
    slant, length = rng.normal(0.0, FALLING_SLANT_DEGREES), log_uniform(*FALLING_LENGTH, rng)
    density, brightness = log_uniform(*FALLING_STREAKS_PER_PIXEL, rng), log_uniform(*FALLING_BRIGHTNESS, rng)
    streaks = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(FALLING_LAYERS[0], FALLING_LAYERS[1] + 1)):
        distance = log_uniform(*FALLING_DISTANCE, rng)
        lengths = (max(5, round(length / distance)),) * 2
        layer = _rain_layer(
            height,
            width,
            slant + rng.normal(0.0, 3.0),
            (density * distance,) * 2,
            rng,
            lengths,
            (FALLING_WIDTH / (distance + 1.0), FALLING_WIDTH / np.sqrt(distance)),
        )
        streaks += brightness * rng.uniform(0.5, 1.0) / np.sqrt(distance) * layer
    covered = np.clip(cv2.GaussianBlur(streaks, (0, 0), rng.uniform(0.2, 0.8)), 0.0, 1.0)[..., None]
    light = rng.uniform(*VEIL_BRIGHTNESS)
    return rounded_to_8_bits(image + covered * light * (1.0 - rng.uniform(0.3, 1.0) * image))


def _veiled(image: Image, strengths: tuple[float, float], rng: np.random.Generator) -> NDArray[np.floating]:
    """Add the veil of distant drops, which thickens with a depth-like map."""
    veil = rng.uniform(*strengths) * _depth(image.shape[0], image.shape[1], rng)[..., None]
    return np.asarray(image * (1.0 - veil) + rng.uniform(*VEIL_BRIGHTNESS) * veil)


def _rain_layer(
    height: int,
    width: int,
    angle_degrees: float,
    density_range: tuple[float, float],
    rng: np.random.Generator,
    length_range: tuple[int, int] = STREAK_LENGTH,
    width_range: tuple[float, float] = STREAK_WIDTH,
) -> Image:
    """Draw one layer of streaks (H, W) in [0, 1]: sparse drops, motion-blurred along the wind."""
    length = int(rng.integers(length_range[0], length_range[1] + 1))
    margin = length  # streaks that begin outside the frame cross its border
    shape = (height + 2 * margin, width + 2 * margin)
    density = np.exp(rng.uniform(*np.log(density_range)))  # log-uniform: light rain is as frequent as heavy rain
    drops = (rng.random(shape, dtype=np.float32) < density).astype(np.float32)
    drops *= rng.uniform(0.4, 1.0, shape).astype(np.float32)
    streaks = cv2.filter2D(drops, -1, _motion_kernel(length, angle_degrees, rng.uniform(*width_range)))
    return np.clip(streaks[margin : margin + height, margin : margin + width], 0.0, 1.0)


def _motion_kernel(length: int, angle_degrees: float, width: float) -> Image:
    """Draw a line of `length` pixels through the centre, `angle_degrees` off the vertical, with a Gaussian profile."""
    half = length // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    angle = np.deg2rad(angle_degrees)
    along = y * np.cos(angle) + x * np.sin(angle)
    across = x * np.cos(angle) - y * np.sin(angle)
    line = np.exp(-0.5 * (across / width) ** 2) * np.clip(half + 0.5 - np.abs(along), 0.0, 1.0)
    return line.astype(np.float32)


def haze(clean: Image, rng: np.random.Generator) -> Image:
    """Scatter light: I = J t + A (1 - t), with transmission t = exp(-optical depth) of a depth-like ramp."""
    height, width = clean.shape[:2]
    airlight = rng.uniform(*HAZE_AIRLIGHT) + rng.uniform(-HAZE_AIRLIGHT_TINT, HAZE_AIRLIGHT_TINT, 3)
    transmission = np.exp(-rng.uniform(*HAZE_OPTICAL_DEPTH) * _depth(height, width, rng))[..., None]
    return rounded_to_8_bits(clean * transmission + np.minimum(airlight, 1.0) * (1.0 - transmission))


def hazy(optical_depth: float) -> Degrade:
    """Return a degradation that scatters light along a depth-like ramp, up to the given optical depth."""

    def degrade(clean: Image, rng: np.random.Generator) -> Image:
        height, width = clean.shape[:2]
        transmission = np.exp(-optical_depth * _depth(height, width, rng))[..., None]
        return rounded_to_8_bits(clean * transmission + rng.uniform(*HAZE_AIRLIGHT) * (1.0 - transmission))

    return degrade


def deep_haze(clean: Image, rng: np.random.Generator) -> Image:
    """Scatter light with a depth that follows the edges of the picture and an airlight of any pale colour."""
    tint = rng.uniform(-DEEP_AIRLIGHT_TINT, DEEP_AIRLIGHT_TINT, 3)
    airlight = np.clip(rng.uniform(*DEEP_AIRLIGHT) + tint, 0.0, 1.0)
    transmission = np.exp(-log_uniform(*DEEP_OPTICAL_DEPTH, rng) * _depth_along_edges(clean, rng))[..., None]
    return rounded_to_8_bits(clean * transmission + airlight * (1.0 - transmission))


def _depth(height: int, width: int, rng: np.random.Generator) -> Image:
    """Draw a smooth depth-like map (H, W) in (0, 1], increasing towards the top as outdoors."""
    nearest = rng.uniform(*HAZE_NEAREST_DEPTH)
    ramp = np.linspace(1.0, 0.0, height, dtype=np.float32)[:, None] ** rng.uniform(0.6, 1.8)
    cells = rng.random((5, 5), dtype=np.float32)
    undulation = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    mix = rng.uniform(0.2, 0.6)
    relief = np.clip((1.0 - mix) * ramp + mix * undulation, 0.0, 1.0)
    return np.asarray(nearest + (1.0 - nearest) * relief, np.float32)


def _depth_along_edges(clean: Image, rng: np.random.Generator) -> Image:
    """Draw a depth-like map (H, W) in (0, 1] whose steps lie on edges of `clean`."""
    height, width = clean.shape[:2]
    colours = clean @ rng.normal(0.0, 1.0, 3).astype(np.float32)
    low, high = float(colours.min()), float(colours.max())
    layers = (colours - low) / max(high - low, 1e-3)
    share = rng.uniform(0.2, 0.7)
    rough = (1.0 - share) * _depth(height, width, rng) + share * layers
    guide = np.asarray(cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY), np.float32)
    radius = max(3, int(min(height, width) * rng.uniform(0.04, 0.12)))
    relief = np.clip(_guided_filter(np.asarray(rough, np.float32), guide, radius), 0.0, 1.0)
    nearest = rng.uniform(0.05, 0.4)
    return np.asarray(nearest + (1.0 - nearest) * relief, np.float32)


def _guided_filter(source: Image, guide: Image, radius: int) -> Image:
    """Smooth `source` (H, W) except across the edges of `guide` (H, W), as in He et al. (2010)."""

    def mean(values: Image) -> Image:
        return np.asarray(cv2.blur(values, (2 * radius + 1, 2 * radius + 1)), np.float32)

    mean_guide, mean_source = mean(guide), mean(source)
    slope = (mean(guide * source) - mean_guide * mean_source) / (mean(guide * guide) - mean_guide**2 + GUIDE_EPSILON)
    return mean(slope) * guide + mean(mean_source - slope * mean_guide)


@degradation("rain", share=0.09)
def light_rain_pair(clean: Image, rng: np.random.Generator) -> Degraded:
    """Add separate rain streaks."""
    return Degraded(rain(clean, rng), clean, labels("rain"))


@degradation("heavy_rain", share=0.08)
def heavy_rain_pair(clean: Image, rng: np.random.Generator) -> Degraded:
    """Add rain as dense as in Rain100H."""
    return Degraded(heavy_rain(clean, rng), clean, labels("rain"))


@degradation("haze", share=0.14, whole_scenes=0.7)
def haze_pair(clean: Image, rng: np.random.Generator) -> Degraded:
    """Add haze that thickens towards the top of the picture."""
    return Degraded(haze(clean, rng), clean, labels("haze"))


@degradation("deep_haze", share=0.10, whole_scenes=0.7)
def deep_haze_pair(clean: Image, rng: np.random.Generator) -> Degraded:
    """Add haze whose depth follows the edges of the picture."""
    return Degraded(deep_haze(clean, rng), clean, labels("haze"))
