"""The Report: what the network saw in an image, and how much it changed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from server.backends.base import Aux
from server.imaging.assembly import Samples

ROWS_AT_ONCE = 256

Degradations = Mapping[str, float]
"""The probability of each degradation that the network can name; they do not exclude one another."""
LevelWeights = tuple[tuple[float, ...], ...]
"""For each decoder level, from coarse to fine, the share of each learnt prompt component; a level sums to 1."""


@dataclass(frozen=True)
class Change:
    """The size of a change, in fractions of the full range of the samples; `psnr_db` is infinite for none."""

    mean_abs: float
    max_abs: float
    psnr_db: float


@dataclass(frozen=True)
class Report:
    """What is told about one restoration; `prompt_weights` is None where the artifact does not answer with them."""

    change: Change
    prompt_weights: LevelWeights | None = None
    """Numbers without names; what was found in the photo is told by its degradations."""


def measure_change(before: Sequence[Samples], after: Sequence[Samples]) -> Change:
    """Compare planes of samples, each (H, W), of the same shapes and type, a band of rows at a time."""
    if [(plane.dtype, plane.shape) for plane in before] != [(plane.dtype, plane.shape) for plane in after]:
        raise ValueError("planes of other sizes, types or number cannot be compared")
    full = np.iinfo(before[0].dtype).max
    absolute = squares = largest = 0.0
    for old, new in zip(before, after, strict=True):
        for top in range(0, len(old), ROWS_AT_ONCE):
            rows = slice(top, top + ROWS_AT_ONCE)
            difference = np.subtract(new[rows], old[rows], dtype=np.float32)
            absolute += float(np.abs(difference).sum(dtype=np.float64))
            squares += float(np.square(difference).sum(dtype=np.float64))
            largest = max(largest, float(np.abs(difference).max()))
    samples = sum(plane.size for plane in before)
    mean_square = squares / samples / full**2
    return Change(
        mean_abs=absolute / samples / full,
        max_abs=largest / full,
        psnr_db=-10 * math.log10(mean_square) if mean_square else math.inf,
    )


@dataclass(frozen=True)
class Findings:
    """What the network found in an image; each part is None where the artifact does not answer with it."""

    prompt_weights: LevelWeights | None = None
    degradations: Degradations | None = None

    @classmethod
    def of(cls, tiles: Sequence[Aux | None], labels: Sequence[str]) -> Self:
        """Average the findings (rows, columns) of an image's runs, and split them.

        Runs are equal in size, so it is also the mean by pixels. The last row has the probabilities of `labels`, if
        there are any. Nothing is found where a run has no findings, or none that are numbers.
        """
        known = [tile for tile in tiles if tile is not None and np.isfinite(tile).all()]
        if not known or len(known) < len(tiles):
            return cls()
        rows = np.stack(known).mean(axis=0, dtype=np.float64).tolist()
        levels = rows[:-1] if labels else rows
        return cls(
            tuple(tuple(level) for level in levels) or None,
            dict(zip(labels, rows[-1], strict=False)) if labels else None,
        )
