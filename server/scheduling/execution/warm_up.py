"""The warm-up: runs before the first tile that load code and caches and give the cost model its first points."""

from collections.abc import Callable

import numpy as np

from server.backends.base import Backend, BackendInfo, ModelInput
from server.errors import BackendError, BackendLost, BackendUnavailable
from server.scheduling.policy.cost_model import CostModel
from server.scheduling.queue.tile import PaddedShape

# Sides in size multiples of the model, small enough to be quick on a CPU. Each shape runs twice, the second is timed.
FIRST_SIDE = 8
RUNS_A_POINT = 2
# (side, images) of the further points; a point runs if it fits the budget at the first point's seconds a pixel.
FURTHER_POINTS = ((4, 1), (8, 2), (8, 4), (8, 8), (16, 1), (16, 4), (32, 1))
BUDGET_S = 1.0
# A runtime whose first run takes longer has compiled for its size, and would do so again for others.
COMPILING_S = 5.0


def warm_up(
    backend: Backend, info: BackendInfo, cost_model: CostModel, clock: Callable[[], float], model: str = ""
) -> None:
    """Time a few shapes and counts for the `cost_model` of `model`; takes about `BUDGET_S` beyond the first point.

    Raises BackendUnavailable if the output of a point is unusable, or what the backend raises at the first point; a
    further point that cannot run is left out.
    """

    def measure(side: int, count: int) -> float:
        pixels = side * info.model.size_multiple
        seconds = _measure(backend, (count, info.model.channels, pixels, pixels), clock)
        cost_model.observe(PaddedShape(pixels, pixels, model), count, seconds)
        return seconds

    began = clock()
    seconds = measure(FIRST_SIDE, 1)
    spent_s = 0.0
    if clock() - began > COMPILING_S:
        return
    for side, count in FURTHER_POINTS:
        expected_s = RUNS_A_POINT * seconds * max(1.0, count * (side / FIRST_SIDE) ** 2)
        if count > info.max_batch or spent_s + expected_s > BUDGET_S:
            continue
        began = clock()
        try:
            measure(side, count)
        except BackendLost:
            raise
        except BackendError:  # too large for the device's memory, or outside the profiles of a plan
            continue
        finally:
            spent_s += clock() - began


def _measure(backend: Backend, shape: tuple[int, int, int, int], clock: Callable[[], float]) -> float:
    """Return the seconds of the last of a few runs of one shape."""
    batch = ModelInput(np.full(shape, 0.5, np.float32))
    for _ in range(RUNS_A_POINT):
        began = clock()
        output = backend.run(batch).pixels
        seconds = clock() - began
        if output.shape != batch.shape or not np.isfinite(output).all():
            raise BackendUnavailable("the backend's warm-up run gave a wrong shape or values that are not finite")
    return seconds
