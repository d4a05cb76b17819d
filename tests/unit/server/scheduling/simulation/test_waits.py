"""Simulations of the wait for a fuller run: where it pays, and that it costs nothing where it does not."""

from typing import Any

import numpy as np
import pytest

from server.scheduling.policy import planner

IDEAL = 8 / 0.022


@pytest.fixture
def greedy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a simulation again without the wait."""

    def run(build: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(planner, "batch_delay", lambda *_: None)
            return build()

    return run


def closed_loop(simulate: Any, clients: int, spread_s: float, **options: Any) -> Any:
    """Clients whose answers and requests take their turns on one event loop: back one after another."""
    simulation = simulate(**options)
    free = 0.0

    def turn() -> float:
        nonlocal free
        free = max(free, simulation.now + 0.0005) + spread_s / clients
        return float(free - simulation.now)

    for _ in range(clients):
        simulation.client(turn)
    simulation.run(8)
    return simulation


def poisson(simulate: Any, load: float, seed: int = 1) -> Any:
    simulation = simulate(seed=seed)
    simulation.poisson(load * IDEAL, until=59)
    simulation.run(60)
    return simulation.latencies(2)


def test_a_lone_client_never_waits(simulate: Any) -> None:
    assert closed_loop(simulate, 1, 0.002).latencies()[-1] == pytest.approx(0.008)


def test_two_clients_share_their_runs(simulate: Any, greedy: Any) -> None:
    alternating = greedy(lambda: closed_loop(simulate, 2, 0.001)).throughput(2)
    assert closed_loop(simulate, 2, 0.001).throughput(2) > 1.3 * alternating


def test_eight_clients_reach_a_full_run_each_time(simulate: Any, greedy: Any) -> None:
    simulation = closed_loop(simulate, 8, 0.0025)
    assert simulation.throughput(2) > 0.87 * IDEAL
    assert greedy(lambda: closed_loop(simulate, 8, 0.0025)).throughput(2) < 0.8 * IDEAL
    assert np.mean([len(batch.tiles) for began, _, batch in simulation.devices[0].runs if began > 2]) > 7.8


def test_nine_clients_do_not_fall_behind_eight(simulate: Any) -> None:
    assert closed_loop(simulate, 9, 0.0025).throughput(2) > 0.85 * IDEAL


def test_clients_that_come_back_too_late_are_not_waited_for(simulate: Any, greedy: Any) -> None:
    slow = closed_loop(simulate, 8, 0.012)
    assert slow.throughput(2) > 0.97 * greedy(lambda: closed_loop(simulate, 8, 0.012)).throughput(2)


def test_when_clients_leave_the_others_go_on_without_them(simulate: Any) -> None:
    simulation = simulate()
    leave_at = 3.0

    def think() -> float:
        return 0.001 if simulation.now < leave_at else 1e6

    for _ in range(4):
        simulation.client(think)
    for _ in range(2):
        simulation.client(lambda: 0.001)
    simulation.run(6)
    late = [request for request in simulation.requests if request.sent_at > leave_at + 0.5]
    lonely = [request.latency for request in late if request.ended_at]
    assert np.quantile(lonely, 0.9) < 0.0101


@pytest.mark.parametrize(("load", "p50_s", "p99_s"), [(0.5, 0.0165, 0.033), (0.8, 0.028, 0.060)])
def test_arrivals_at_random_are_served_as_if_nobody_ever_waited(
    simulate: Any, greedy: Any, load: float, p50_s: float, p99_s: float
) -> None:
    latencies, without = poisson(simulate, load), greedy(lambda: poisson(simulate, load))
    assert np.mean(latencies) == pytest.approx(np.mean(without), rel=0.02)
    assert np.quantile(latencies, 0.99) == pytest.approx(np.quantile(without, 0.99), rel=0.03)
    assert np.quantile(latencies, 0.5) < p50_s
    assert np.quantile(latencies, 0.99) < p99_s


def test_near_the_limit_the_tail_is_that_of_the_arrivals(simulate: Any) -> None:
    worst = [np.quantile(poisson(simulate, 0.95, seed), 0.99) for seed in (1, 2, 3)]
    assert np.median(worst) < 0.2


def test_mixed_sizes_at_seventy_percent_stay_below_75_ms(simulate: Any, device_cost: Any) -> None:
    simulation = simulate([device_cost(ms_per_megapixel=122.07)], turnaround_s=0.0005)
    simulation.poisson(0.7 * 510.6, lambda: simulation.random.choice((64, 96, 128)), until=29)
    simulation.run(30)
    assert np.quantile(simulation.latencies(2), 0.99) < 0.075


def test_mixed_sizes_in_a_closed_loop_fill_their_runs(simulate: Any, device_cost: Any) -> None:
    simulation = simulate([device_cost(ms_per_megapixel=122.07)], turnaround_s=0.0005)
    for _ in range(32):
        simulation.client(lambda: 0.003, lambda: simulation.random.choice((64, 96, 128)))
    simulation.run(10)
    assert simulation.throughput(2) > 0.97 * 510.6
