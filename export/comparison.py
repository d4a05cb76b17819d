"""The comparison of two answers to one batch, for a signal range of 1."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
"""float32 (N, 3, H, W), nominally in [0, 1]."""
PromptWeights = NDArray[np.float32]
"""float32 (N, levels, components)."""

EXACT_DB = 200.0
"""Reported for equal answers, whose true ratio is infinite; the last bit of float32 costs more than 50 dB of it."""


class Answer(NamedTuple):
    """What a model makes of a batch; `prompt_weights` is None where it does not answer with them."""

    restored: Pixels
    prompt_weights: PromptWeights | None = None


@dataclass(frozen=True)
class Comparison:
    """How far an answer is from the expected one."""

    max_abs_error: float
    """NaN if a value of either answer is."""
    psnr_db: float
    """Of the worst image of the batch; NaN or minus infinity if a value of it is not finite."""
    non_finite: int
    """Values of the answer that are NaN or infinite."""
    prompt_weights_error: float | None = None
    """The largest absolute error of a prompt weight, NaN if one is; None where there are none to compare."""


def compare(found: Pixels, expected: Pixels) -> Comparison:
    """Compare two images of one shape (N, 3, H, W)."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity is a result here
        difference = found.astype(np.float64) - expected
        worst_mse = float(np.square(difference).mean(axis=(1, 2, 3)).max())
    return Comparison(
        max_abs_error=float(np.abs(difference).max()),
        psnr_db=EXACT_DB if worst_mse == 0 else min(-10 * math.log10(worst_mse), EXACT_DB),
        non_finite=int(np.count_nonzero(~np.isfinite(found))),
    )


def compare_answers(found: Answer, expected: Answer) -> Comparison:
    """Compare two answers to one batch: the images, and the prompt weights where both have them."""
    comparison = compare(found.restored, expected.restored)
    if found.prompt_weights is None or expected.prompt_weights is None:
        return comparison
    error = float(np.abs(found.prompt_weights - expected.prompt_weights).max())
    return replace(comparison, prompt_weights_error=error)
