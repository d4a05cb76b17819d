"""Masked padded shapes against buckets of equal shape: the real batcher, on traffic of many sizes."""

import random
from typing import Any

import numpy as np
import pytest
from devices import loaded

# A device that is bound by its launches: 6 ms a run, and 7.6 ms a megapixel.
LAUNCH_BOUND = {"base_ms": 6.0, "ms_per_megapixel": 7.6}
RUN_PIXELS = 2_097_152
SECONDS, SETTLED = 12.0, 2.0
PHOTOS = [(256, 256), (256, 384), (384, 256), (256, 320), (320, 256), (384, 384)]
PHOTOS += [(384, 512), (512, 384), (512, 512), (480, 640), (640, 480), (1024, 768)]
WEIGHTS = [10, 9, 6, 10, 8, 8, 8, 8, 8, 6, 5, 2]


def latencies(
    simulate: Any, cost: Any, rate: float, sizes: list[Any], weights: list[int] | None, masks: bool, seed: int = 1
) -> Any:
    """Seconds of all requests of a Poisson trace; the same trace whatever `masks` is."""
    simulation = simulate((cost,), seed=seed, masks=masks, turnaround_s=0.0005, ahead_s=0.001)
    loaded(simulation.devices[0].device).max_run_pixels = RUN_PIXELS
    draw = random.Random(seed)
    simulation.poisson(rate, side=lambda: draw.choices(sizes, weights)[0], until=SECONDS)
    simulation.run(SECONDS + 60)
    assert all(request.restored for request in simulation.requests)
    return simulation.latencies(since=SETTLED)


def goodput(latency: Any, deadline_s: float) -> float:
    return float((latency <= deadline_s).sum()) / (SECONDS - SETTLED)


def test_under_a_tight_deadline_padded_shapes_answer_twice_as_many(simulate: Any, device_cost: Any) -> None:
    cost = device_cost(**LAUNCH_BOUND)
    plain, masked = (latencies(simulate, cost, 300, PHOTOS, WEIGHTS, masks) for masks in (False, True))
    assert goodput(masked, 0.05) > 1.7 * goodput(plain, 0.05)
    assert np.percentile(masked, 99) < np.percentile(plain, 99)


@pytest.mark.parametrize("base_ms", [0.0, 1.0, 6.0])
@pytest.mark.parametrize("rate", [60, 200])
@pytest.mark.parametrize("trace", ["photos", "two sizes", "far apart", "one size"])
def test_no_trace_is_served_worse_than_by_buckets(
    simulate: Any, device_cost: Any, base_ms: float, rate: float, trace: str
) -> None:
    sizes: list[Any] = {
        "photos": PHOTOS,
        "two sizes": [(512, 384), (512, 512)],
        "far apart": [(64, 64), (1024, 1024)],
        "one size": [(512, 512)],
    }[trace]
    cost = device_cost(base_ms=base_ms, ms_per_megapixel=7.6)
    plain, masked = (latencies(simulate, cost, rate, sizes, None, masks) for masks in (False, True))
    assert np.mean(masked) <= 1.05 * np.mean(plain)
    for deadline_s in (0.05, 0.2):
        assert goodput(masked, deadline_s) >= 0.97 * goodput(plain, deadline_s)


def test_where_runs_have_no_fixed_cost_nothing_is_shared(simulate: Any, device_cost: Any) -> None:
    simulation = simulate((device_cost(base_ms=0.0, ms_per_megapixel=7.6),), masks=True)
    draw = random.Random(1)
    simulation.poisson(150, side=lambda: draw.choice(PHOTOS), until=5.0)
    simulation.run(30.0)
    assert not any(batch.shared for *_, batch in simulation.devices[0].runs)


def test_deadlines_are_kept_as_well_as_by_buckets(simulate: Any, device_cost: Any) -> None:
    def kept(masks: bool) -> int:
        simulation = simulate((device_cost(**LAUNCH_BOUND),), masks=masks)
        loaded(simulation.devices[0].device).max_run_pixels = RUN_PIXELS
        draw = random.Random(3)
        simulation.poisson(250, lambda: draw.choices(PHOTOS, WEIGHTS)[0], until=SECONDS, patience_s=0.1)
        simulation.run(SECONDS + 60)
        return sum(request.restored and request.latency <= 0.1 for request in simulation.requests)

    assert kept(True) > kept(False)
