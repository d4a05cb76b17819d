"""Tone: how far it steps where two tiles meet, as the eye sees it."""

import itertools
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from server.backends.base import Pixels
from server.imaging.tiling import Axis, Grid

Levels = NDArray[np.float32]

SIGMA = 8
"""Of the low-pass, in pixels: what is left is tone."""
REACH = 24
"""Pixels to either side of a line at which its two sides are looked at."""
BESIDE = (72, 108, 144)
"""Pixels from a seam of the lines that it is compared with: inside a tile, and near enough to show the same things."""
FULL = 255


class Steps(NamedTuple):
    """Levels of 255 across many pixels of a line: 95 of 100 are smaller, and the largest."""

    p95: float
    largest: float


class Tone(NamedTuple):
    """What steps at the seams of a grid, and what steps elsewhere: a photo is not flat either."""

    seams: Steps
    elsewhere: Steps


def tone(before: Pixels, after: Pixels, grid: Grid) -> Tone:
    """Measure the change of a photo, both (3, H, W), at the seams of a grid; the channel that steps most counts."""
    change = np.stack([cv2.GaussianBlur(new - old, (0, 0), SIGMA) for old, new in zip(before, after, strict=True)])
    at: list[Levels] = []
    beside: list[Levels] = []
    for axis, across in ((grid.vertical, change), (grid.horizontal, change.transpose(0, 2, 1))):
        for seam in seams(axis):
            at.append(_step(across, seam))
            lines = itertools.chain(*((seam - far, seam + far) for far in BESIDE))
            beside += [_step(across, line) for line in lines if REACH <= line < axis.length - REACH]
    return Tone(_steps(at), _steps(beside))


def seams(axis: Axis) -> list[int]:
    """The middle of each seam along an axis."""
    return [(span.start + span.stop) // 2 for span in axis.spans if span.first != span.last]


def _step(across: Pixels, line: int) -> Levels:
    return np.asarray(np.abs(across[:, line + REACH] - across[:, line - REACH]).max(axis=0) * FULL)


def _steps(lines: list[Levels]) -> Steps:
    levels = np.concatenate(lines)
    return Steps(float(np.percentile(levels, 95)), float(levels.max()))
