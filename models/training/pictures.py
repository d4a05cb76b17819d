"""Synthetic "dead leaves" pictures, which train denoisers nearly as well as photos."""

import cv2
import numpy as np

from models.training.degradations import Image

RADIUS_EXPONENT = 3.0
"""Disc radii follow r^-3: scale-invariant, like object sizes in photos (Lee, Mumford and Huang 2001)."""
SMALLEST_RADIUS = 2.0
LEAVES_PER_PIXEL = 0.03
MAX_LEAVES = 400
TEXTURE_SHARE = 0.5
"""Share of textured discs."""
SUPERSAMPLING = 2


def dead_leaves(size: int, rng: np.random.Generator) -> Image:
    """Draw overlapping discs of random radius, colour and texture: (size, size, 3) float32 in [0, 1]."""
    side = size * SUPERSAMPLING
    picture = np.full((side, side, 3), rng.random(3), np.float32)
    count = min(MAX_LEAVES, int(side * side * LEAVES_PER_PIXEL))
    low, high = SMALLEST_RADIUS**-2, float(side) ** -2
    radii = (low + rng.random(count) * (high - low)) ** -0.5
    palette = rng.random((8, 3), dtype=np.float32)
    for radius in radii:
        colour = np.clip(palette[rng.integers(len(palette))] + rng.normal(0.0, 0.08, 3), 0.0, 1.0)
        centre = (int(rng.integers(side)), int(rng.integers(side)))
        if rng.random() < TEXTURE_SHARE and radius > SMALLEST_RADIUS * 4:
            _textured_disc(picture, centre, int(radius), colour, rng)
        else:
            cv2.circle(picture, centre, max(1, int(radius)), colour.tolist(), -1, cv2.LINE_8)
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), np.float32)


def _textured_disc(
    picture: Image, centre: tuple[int, int], radius: int, colour: np.ndarray, rng: np.random.Generator
) -> None:
    """Draw a disc with stripes or a smooth random pattern."""
    mask = np.zeros(picture.shape[:2], np.uint8)
    cv2.circle(mask, centre, radius, 1, -1)
    side = picture.shape[0]
    if rng.random() < 0.5:
        angle, frequency = rng.uniform(0.0, np.pi), rng.uniform(0.1, 0.9)
        y, x = np.mgrid[0:side, 0:side].astype(np.float32)
        pattern = np.sin((x * np.cos(angle) + y * np.sin(angle)) * frequency)
    else:
        cells = max(2, int(side / rng.uniform(2.0, 16.0)))
        pattern = cv2.resize(rng.standard_normal((cells, cells), dtype=np.float32), (side, side))
    filled = np.clip(colour + rng.uniform(0.03, 0.2) * pattern[..., None], 0.0, 1.0)
    picture[mask > 0] = filled[mask > 0]
