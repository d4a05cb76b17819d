"""Simulations of overload: the backlog stays bounded, and the device keeps doing only useful work."""

import random
from typing import Any

import numpy as np
import pytest
from devices import loaded

from server.errors import QueueFull
from server.scheduling.queue.tile import Priority

IDEAL = 8 / 0.022
BOUND_S = 0.5


def test_under_fivefold_overload_goodput_is_capacity_and_nobody_waits_past_the_bound(simulate: Any) -> None:
    simulation = simulate(max_backlog_s=BOUND_S)
    waiting: list[int] = []

    def look() -> None:
        waiting.append(simulation.batcher.queue.tiles)
        simulation.at(simulation.now + 0.01, look)

    simulation.at(1, look)
    simulation.poisson(5 * IDEAL)
    simulation.run(20)
    assert simulation.throughput(1) > 0.95 * IDEAL
    assert simulation.latencies()[-1] < BOUND_S + 0.022
    refused = [request.outcome for request in simulation.requests if isinstance(request.outcome, QueueFull)]
    assert len(refused) > 0.75 * len(simulation.requests)
    assert all(refusal.retry_after_s >= 1 for refusal in refused)
    assert max(waiting) < 1.1 * BOUND_S * IDEAL
    assert max(waiting[len(waiting) // 2 :]) < 1.1 * max(waiting[: len(waiting) // 2])


def test_runs_that_are_slow_now_and_then_leave_the_bound_to_nearly_all(simulate: Any) -> None:
    """A quarter of the runs take a third longer, which the medians of the cost model do not see."""
    slow = random.Random(5)

    def cost(pixels: int, count: int) -> float:
        return (6 + 488 * pixels * count / 1e6) / 1e3 * (1.33 if slow.random() < 0.25 else 1.0)

    simulation = simulate([cost], max_backlog_s=BOUND_S)
    simulation.poisson(5 * IDEAL)
    simulation.run(30)
    settled = [request.latency for request in simulation.requests if request.restored and request.sent_at > 5]
    assert np.mean(np.array(settled) < BOUND_S + 0.022) > 0.93
    assert np.median(settled) > 0.8 * BOUND_S
    assert simulation.throughput(1) > 0.95 * IDEAL / (1 + 0.25 * 0.33)


def test_mixed_sizes_in_overload_keep_the_bound_as_well(simulate: Any, device_cost: Any) -> None:
    simulation = simulate([device_cost(ms_per_megapixel=122.07)], max_backlog_s=BOUND_S)
    simulation.poisson(5 * 510.6, lambda: simulation.random.choice((64, 96, 128)))
    simulation.run(8)
    assert np.quantile(simulation.latencies(), 0.999) < BOUND_S + 0.03
    assert simulation.throughput(1) > 0.95 * 510.6


def test_two_devices_admit_twice_as_much_for_the_same_wait(simulate: Any, device_cost: Any) -> None:
    simulation = simulate([device_cost()] * 2, max_backlog_s=BOUND_S)
    simulation.poisson(8 * IDEAL)
    simulation.run(5)
    assert simulation.throughput(1) > 0.95 * 2 * IDEAL
    assert simulation.latencies()[-1] < BOUND_S + 0.044
    assert simulation.latencies()[-1] > 0.8 * BOUND_S


def test_interactive_goodput_does_not_suffer_from_a_flood_of_the_batch_class(simulate: Any) -> None:
    simulation = simulate(max_backlog_s=BOUND_S)
    interactive: list[Any] = []
    simulation.poisson(5 * IDEAL, priority=Priority.BATCH)

    def arrive() -> None:
        interactive.append(simulation.send())
        simulation.at(simulation.now + simulation.random.expovariate(0.3 * IDEAL), arrive)

    simulation.at(0.5, arrive)
    simulation.run(8)
    ended = [request for request in interactive if request.ended_at]
    assert all(request.restored for request in ended)
    assert np.quantile([request.latency for request in ended], 0.99) < 0.1


def test_the_backlog_is_what_the_device_then_takes(simulate: Any) -> None:
    simulation = simulate()
    for side in (64, 64, 96, 128, 64, 96) * 8:
        simulation.send(side)
    predicted = simulation.batcher.backlog_s()
    simulation.run(5)
    assert max(request.ended_at for request in simulation.requests) == pytest.approx(predicted, rel=0.05)


def test_a_cost_model_that_knows_nothing_learns_within_seconds_of_overload(simulate: Any) -> None:
    simulation = simulate(learned=False, max_backlog_s=BOUND_S)
    simulation.poisson(5 * IDEAL)
    simulation.run(6)
    assert simulation.latencies(2)[-1] < BOUND_S + 0.022
    assert loaded(simulation.devices[0].device).cost_model.relative_error < 0.02
