"""Arrival times of the requests of an open loop."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pattern = Literal["poisson", "even"]


def due_offsets(rate: float, seconds: float, pattern: Pattern, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the due times of requests in seconds after the start: ascending, below `seconds`, `rate` per second.

    `poisson` draws independent exponential gaps, like many independent clients; `even` spaces requests equally.
    """
    if pattern == "even":
        return np.arange(0, seconds, 1 / rate)
    offsets = np.empty(0)
    while not len(offsets) or offsets[-1] < seconds:
        last = offsets[-1] if len(offsets) else 0.0
        gaps = rng.exponential(1 / rate, max(16, int(rate * seconds)))
        offsets = np.concatenate([offsets, last + np.cumsum(gaps)])
    return offsets[offsets < seconds]
