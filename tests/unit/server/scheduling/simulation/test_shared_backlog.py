"""The backlog of a masked model: predicted as it is worked off, and what is admitted by it is answered in time."""

import random
from collections import Counter
from typing import Any

import pytest
from devices import loaded
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import DeadlineUnmet, QueueFull
from server.scheduling.admission.backlog import MixedSizeSavings
from server.scheduling.queue.tile import Completion, Priority

LAUNCH_BOUND = {"base_ms": 6.0, "ms_per_megapixel": 7.6}
RUN_PIXELS = 2_097_152
PHOTOS = [(256, 256), (256, 384), (384, 256), (256, 320), (320, 256), (384, 384)]
PHOTOS += [(384, 512), (512, 384), (512, 512), (480, 640), (640, 480), (1024, 768)]
MANY = [(height, width) for height in range(256, 513, 16) for width in range(256, 513, 16)]
SECONDS = 8.0
# Part of the answered ones that may be late beyond those that are late with buckets.
LATE = 0.005


def simulated(simulate: Any, cost: Any, masks: bool = True, **options: Any) -> Any:
    simulation = simulate((cost(**LAUNCH_BOUND),), masks=masks, turnaround_s=0.0005, ahead_s=0.001, **options)
    loaded(simulation.devices[0].device).max_run_pixels = RUN_PIXELS
    return simulation


def overloaded(simulation: Any, sizes: list[Any], rate: float, patience_s: tuple[float, float] | None) -> Counter[str]:
    """What became of a Poisson trace: how many were refused at once, were answered in time, and missed it."""
    draw = random.Random(1)

    def arrive() -> None:
        if simulation.now < SECONDS:
            simulation.send(draw.choice(sizes), patience_s=patience_s and draw.uniform(*patience_s))
            simulation.at(simulation.now + simulation.random.expovariate(rate), arrive)

    simulation.at(0.0, arrive)
    simulation.run(SECONDS + 60)

    def fate(request: Any) -> str:
        if isinstance(request.outcome, QueueFull | DeadlineUnmet):
            return "refused"
        late = request.tile.deadline is not None and request.ended_at > request.tile.deadline
        return "in time" if isinstance(request.outcome, Completion) and not late else "missed"

    return Counter(map(fate, simulation.requests))


def nothing(savings: MixedSizeSavings, device: Any, priority: Priority) -> float:
    """As if buckets ran apart."""
    return 0.0


@given(
    sizes=st.lists(st.sampled_from(MANY + PHOTOS), min_size=12, max_size=60),
    priority=st.sampled_from(list(Priority)),
)
@settings(deadline=None, max_examples=60)
def test_a_queue_is_worked_off_in_the_time_that_was_predicted(
    simulate: Any, device_cost: Any, sizes: list[Any], priority: Priority
) -> None:
    simulation = simulate((device_cost(**LAUNCH_BOUND),), masks=True)
    loaded(simulation.devices[0].device).max_run_pixels = RUN_PIXELS
    for size in sizes * 2:  # padded shapes are chosen from the traffic before it waits
        simulation.send(size)
    simulation.run(60)
    began = simulation.now
    sent = [simulation.send(size, priority=priority) for size in sizes]
    predicted = simulation.batcher.backlog_s()
    simulation.run(120)
    assert predicted == pytest.approx(max(request.ended_at for request in sent) - began, rel=0.3)


@pytest.mark.parametrize("patience_s", [(0.05, 0.05), (0.1, 0.1), (0.03, 0.3)])
@pytest.mark.parametrize(("sizes", "rate"), [(PHOTOS, 300), (MANY, 500)], ids=["photos", "many"])
def test_no_fewer_are_admitted_and_no_larger_part_of_them_is_late_than_with_buckets(
    simulate: Any,
    device_cost: Any,
    monkeypatch: pytest.MonkeyPatch,
    sizes: list[Any],
    rate: float,
    patience_s: tuple[float, float],
) -> None:
    buckets = overloaded(simulated(simulate, device_cost, masks=False), sizes, rate, patience_s)
    shared = overloaded(simulated(simulate, device_cost), sizes, rate, patience_s)
    monkeypatch.setattr(MixedSizeSavings, "saved_s", nothing)
    apart = overloaded(simulated(simulate, device_cost), sizes, rate, patience_s)
    assert shared["refused"] <= apart["refused"]
    assert shared["in time"] >= apart["in time"]
    assert shared["missed"] / shared["in time"] <= buckets["missed"] / buckets["in time"] + LATE


def test_a_deadline_of_many_runs_refuses_fewer_where_hardly_two_sizes_are_alike(
    simulate: Any, device_cost: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = overloaded(simulated(simulate, device_cost), MANY, 500, (0.1, 0.1))
    monkeypatch.setattr(MixedSizeSavings, "saved_s", nothing)
    apart = overloaded(simulated(simulate, device_cost), MANY, 500, (0.1, 0.1))
    assert shared["refused"] < 0.9 * apart["refused"]


def test_a_bound_on_the_backlog_admits_more_and_half_of_all_still_wait_no_longer_than_the_bound(
    simulate: Any, device_cost: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound_s, rate = 0.1, 600
    simulation = simulated(simulate, device_cost, max_backlog_s=bound_s)
    shared = overloaded(simulation, MANY, rate, None)
    latencies = simulation.latencies()
    assert latencies[len(latencies) // 2] < bound_s
    monkeypatch.setattr(MixedSizeSavings, "saved_s", nothing)
    apart = overloaded(simulated(simulate, device_cost, max_backlog_s=bound_s), MANY, rate, None)
    assert shared["in time"] > 1.05 * apart["in time"]
