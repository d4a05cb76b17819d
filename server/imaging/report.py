"""Report on a restoration: detected degradations, prompt weights and the size of the change."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, Self

import cv2
import numpy as np

from server.backends.base import Aux
from server.imaging.assembly import Samples

Degradations = Mapping[str, float]
"""The probability of each degradation that the network can detect; several may be present at once."""
LevelWeights = tuple[tuple[float, ...], ...]
"""Weights of the learned prompt components for each decoder level, from coarse to fine; each level sums to 1."""


@dataclass(frozen=True)
class Change:
    """Size of a change, in fractions of the samples' full range; `psnr_db` is infinite if nothing changed."""

    mean_abs: float
    max_abs: float
    psnr_db: float


@dataclass(frozen=True)
class Report:
    """The report on one restoration; `prompt_weights` is None if the artifact does not output them."""

    change: Change
    prompt_weights: LevelWeights | None = None
    """The components have no names; see `degradations` for a readable result."""


def measure_change(before: Sequence[Samples], after: Sequence[Samples]) -> Change:
    """Compare (H, W) planes of equal shape and type; raises ValueError if they differ in either."""
    if [(plane.dtype, plane.shape) for plane in before] != [(plane.dtype, plane.shape) for plane in after]:
        raise ValueError("planes that differ in size, type or number cannot be compared")

    def norms(kind: int) -> list[float]:
        return [cv2.norm(old, new, kind) for old, new in zip(before, after, strict=True)]

    full = np.iinfo(before[0].dtype).max
    samples = sum(plane.size for plane in before)
    mean_square = sum(norms(cv2.NORM_L2SQR)) / samples / full**2
    return Change(
        mean_abs=sum(norms(cv2.NORM_L1)) / samples / full,
        max_abs=max(norms(cv2.NORM_INF)) / full,
        psnr_db=-10 * math.log10(mean_square) if mean_square else math.inf,
    )


class Findings(NamedTuple):
    """Auxiliary outputs of the network for an image; each part is None if the artifact does not output it."""

    prompt_weights: LevelWeights | None = None
    degradations: Degradations | None = None

    @classmethod
    def of(cls, tiles: Sequence[Aux | None], labels: Sequence[str]) -> Self:
        """Average the auxiliary outputs (rows, columns) of an image's tiles, and split them into their parts.

        Tiles have equal sizes, so this is also the mean over pixels. If there are `labels`, the last row has their
        probabilities. The result is empty if an output is missing or not finite.
        """
        known = [tile for tile in tiles if tile is not None]
        if not known or len(known) < len(tiles):
            return cls()
        rows = (known[0] if len(known) == 1 else _mean(known)).tolist()
        if not all(map(math.isfinite, chain.from_iterable(rows))):
            return cls()
        levels = rows[:-1] if labels else rows
        return cls(
            tuple(map(tuple, levels)) or None,
            dict(zip(labels, rows[-1], strict=False)) if labels else None,
        )

    def with_detail(self, tiles: Self) -> Self:
        """Return these findings of a reduced frame with the higher probability of each degradation, theirs or `tiles`'.

        Reducing a photo averages its noise and JPEG blocks away; haze shows better in the whole frame.
        """
        if self.degradations is None or tiles.degradations is None:
            return self
        found = {label: max(share, tiles.degradations[label]) for label, share in self.degradations.items()}
        return self._replace(degradations=found)


def _mean(tiles: Sequence[Aux]) -> Aux:
    with np.errstate(invalid="ignore"):  # infinity less infinity, which the caller finds
        return np.asarray(np.stack(tiles).mean(axis=0, dtype=np.float64))
