"""Measurement of visible steps of tone at the seams between tiles."""

import itertools
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from server.backends.base import Pixels
from server.imaging.tiling import Axis, Grid

Levels = NDArray[np.float32]

SIGMA = 8
"""Radius in pixels of the low-pass filter, which leaves only tone."""
REACH = 24
"""Distance in pixels from a line at which its two sides are compared."""
BESIDE = (72, 108, 144)
"""Distance in pixels of the comparison lines from a seam: inside a tile, but close enough for similar content."""
FULL = 255


class Steps(NamedTuple):
    """95th percentile and maximum of the steps along a line, in levels of 255."""

    p95: float
    largest: float


class Tone(NamedTuple):
    """Steps at the seams of a grid and, for comparison, inside its tiles."""

    seams: Steps
    elsewhere: Steps


def tone(before: Pixels, after: Pixels, grid: Grid) -> Tone:
    """Measure the steps of a restoration at the seams of a grid, in the worst channel; both photos are (3, H, W)."""
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
    """Return the middle of each seam along an axis."""
    return [(span.start + span.stop) // 2 for span in axis.spans if span.first != span.last]


def _step(across: Pixels, line: int) -> Levels:
    return np.asarray(np.abs(across[:, line + REACH] - across[:, line - REACH]).max(axis=0) * FULL)


def _steps(lines: list[Levels]) -> Steps:
    levels = np.concatenate(lines)
    return Steps(float(np.percentile(levels, 95)), float(levels.max()))
