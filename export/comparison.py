"""The comparison of two answers to one batch, for a signal range of 1."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
"""float32 (N, 3, H, W), nominally in [0, 1]."""

EXACT_DB = 200.0
"""Reported for equal answers, whose true ratio is infinite; the last bit of float32 costs more than 50 dB of it."""


@dataclass(frozen=True)
class Comparison:
    """How far an answer is from the expected one."""

    max_abs_error: float
    """NaN if a value of either answer is."""
    psnr_db: float
    """Of the worst image of the batch; NaN or minus infinity if a value of it is not finite."""
    non_finite: int
    """Values of the answer that are NaN or infinite."""


def compare(found: Pixels, expected: Pixels) -> Comparison:
    """Compare two answers of one shape (N, 3, H, W)."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity is a result here
        difference = found.astype(np.float64) - expected
        worst_mse = float(np.square(difference).mean(axis=(1, 2, 3)).max())
    return Comparison(
        max_abs_error=float(np.abs(difference).max()),
        psnr_db=EXACT_DB if worst_mse == 0 else min(-10 * math.log10(worst_mse), EXACT_DB),
        non_finite=int(np.count_nonzero(~np.isfinite(found))),
    )
