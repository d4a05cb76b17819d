"""The warm-up: runs before the first tile that load code and caches and give the cost model its first points."""

from collections.abc import Callable, Iterable

import numpy as np

from server.backends.base import Backend, BackendInfo, ModelInput
from server.errors import BackendError, BackendLost, BackendUnavailable
from server.scheduling.policy.cost_model import CostModel
from server.scheduling.queue.tile import PaddedShape

RUNS_A_POINT = 2  # the last of which is timed
# (side, images), sides in size multiples of the model. The first is quick on a CPU; a further point runs if it is
# predicted to fit the budget. The last are the default tiles of large photos.
POINTS = ((8, 1), (4, 1), (8, 2), (8, 4), (8, 8), (16, 1), (16, 4), (32, 1), (64, 1), (64, 4))
BUDGET_S = 1.0
# For the padded shapes that the settings name. On a GPU the first run of each new size takes some tenths of a second
# longer, in which algorithms are chosen for its convolutions.
SHAPES_BUDGET_S = 5.0
# A runtime whose first run takes longer has compiled for its size, and would do so again for others.
COMPILING_S = 5.0


def warm_up(
    backend: Backend,
    info: BackendInfo,
    cost_model: CostModel,
    clock: Callable[[], float],
    shapes: Iterable[tuple[PaddedShape, int]] = (),
    model: str = "",
) -> None:
    """Time a few shapes and counts for the `cost_model` of `model`; takes about `BUDGET_S` beyond the first point.

    Then each of `shapes`, with one image and with its number of images, as long as `SHAPES_BUDGET_S` lasts. Raises
    BackendUnavailable if the output of a point is unusable, or what the backend raises at the first point; a further
    point that cannot run is left out.
    """
    multiple = info.model.size_multiple
    points = ((PaddedShape(side * multiple, side * multiple, model), count) for side, count in POINTS)
    first = next(points)
    began = clock()
    seconds = _measure(backend, info, *first, cost_model, clock)
    if clock() - began > COMPILING_S:
        return
    named = ((shape, count) for shape, most in shapes for count in sorted({1, most}))
    for group, budget_s in ((points, BUDGET_S), (named, SHAPES_BUDGET_S)):
        spent_s = 0.0
        for shape, count in group:
            expected_s = RUNS_A_POINT * max(seconds, cost_model.predict(shape, count))
            if count > info.max_batch or spent_s + expected_s > budget_s:
                continue
            began = clock()
            try:
                _measure(backend, info, shape, count, cost_model, clock)
            except BackendLost:
                raise
            except BackendError:  # too large for the device's memory, or outside the profiles of a plan
                continue
            finally:
                spent_s += clock() - began


def _measure(
    backend: Backend,
    info: BackendInfo,
    shape: PaddedShape,
    count: int,
    cost_model: CostModel,
    clock: Callable[[], float],
) -> float:
    batch = ModelInput(np.full((count, info.model.channels, shape.height, shape.width), 0.5, np.float32))
    for _ in range(RUNS_A_POINT):
        began = clock()
        output = backend.run(batch).pixels
        seconds = clock() - began
        if output.shape != batch.shape or not np.isfinite(output).all():
            raise BackendUnavailable("the backend's warm-up run gave a wrong shape or values that are not finite")
    cost_model.observe(shape, count, seconds)
    return seconds
