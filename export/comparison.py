"""Comparison of two outputs for the same batch; the signal range is 1."""

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
"""Reported for equal outputs, whose true PSNR is infinite; a last-bit float32 error gives less than 150 dB."""


class ModelOutput(NamedTuple):
    """Output of a model for a batch; `prompt_weights` is None if the model does not output them."""

    restored: Pixels
    prompt_weights: PromptWeights | None = None


@dataclass(frozen=True)
class Comparison:
    """Error of an output against the expected one."""

    max_abs_error: float
    """NaN if either output contains a NaN."""
    psnr_db: float
    """PSNR of the worst image in the batch; NaN or minus infinity if it has non-finite values."""
    non_finite: int
    """Number of output values that are NaN or infinite."""
    prompt_weights_error: float | None = None
    """Largest absolute error of a prompt weight, NaN if one is NaN; None if there are none to compare."""


def compare(found: Pixels, expected: Pixels) -> Comparison:
    """Compare two image batches of the same shape (N, 3, H, W)."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity is a valid input here
        difference = found.astype(np.float64) - expected
        worst_mse = float(np.square(difference).mean(axis=(1, 2, 3)).max())
    return Comparison(
        max_abs_error=float(np.abs(difference).max()),
        psnr_db=EXACT_DB if worst_mse == 0 else min(-10 * math.log10(worst_mse), EXACT_DB),
        non_finite=int(np.count_nonzero(~np.isfinite(found))),
    )


def compare_outputs(found: ModelOutput, expected: ModelOutput) -> Comparison:
    """Compare two outputs for the same batch: the images, and the prompt weights if both have them."""
    comparison = compare(found.restored, expected.restored)
    if found.prompt_weights is None or expected.prompt_weights is None:
        return comparison
    error = float(np.abs(found.prompt_weights - expected.prompt_weights).max())
    return replace(comparison, prompt_weights_error=error)
