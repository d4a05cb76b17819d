"""Simulations of several devices on one queue."""

from typing import Any

import numpy as np
import pytest

IDEAL = 8 / 0.022


def saturated(simulate: Any, costs: list[Any], clients: int, **options: Any) -> Any:
    simulation = simulate(costs, **options)
    for _ in range(clients):
        simulation.client(lambda: 0.003)
    simulation.run(6)
    return simulation


@pytest.mark.parametrize(("count", "factor"), [(2, 1.95), (4, 3.8)])
def test_equal_devices_multiply_the_throughput(simulate: Any, device_cost: Any, count: int, factor: float) -> None:
    one = saturated(simulate, [device_cost()], 32).throughput(1)
    many = saturated(simulate, [device_cost()] * count, 32 * count)
    assert one > 0.98 * IDEAL
    assert many.throughput(1) > factor * one
    busy = [device.busy_s for device in many.devices]
    assert min(busy) > 0.95 * max(busy)


def test_mixed_sizes_use_all_devices(simulate: Any, device_cost: Any) -> None:
    simulation = simulate([device_cost(ms_per_megapixel=122.07)] * 4)
    for _ in range(128):
        simulation.client(lambda: 0.003, lambda: simulation.random.choice((64, 96, 128)))
    simulation.run(6)
    assert simulation.throughput(1) > 3.8 * 0.98 * 510.6


def test_two_idle_devices_share_what_waits(simulate: Any, device_cost: Any) -> None:
    simulation = simulate([device_cost()] * 2)
    requests = [simulation.send() for _ in range(8)]
    simulation.run(1)
    assert [len(batch.tiles) for device in simulation.devices for _, _, batch in device.runs] == [4, 4]
    assert max(request.latency for request in requests) == pytest.approx(0.014)


def test_a_slow_idle_device_leaves_a_lone_tile_to_a_fast_one(simulate: Any, device_cost: Any) -> None:
    slow, fast = device_cost(base_ms=60, ms_per_megapixel=4882), device_cost()
    simulation = simulate([slow, fast])
    for _ in range(5):
        simulation.send()
        simulation.run(simulation.now + 0.002)
        simulation.send()  # the fast one is busy, but free again before the slow one were done
        simulation.run(simulation.now + 0.5)
    assert len(simulation.devices[0].runs) == 0
    assert simulation.latencies()[-1] < 0.017


def test_a_slow_device_takes_what_a_fast_one_would_not_be_done_with_sooner(simulate: Any, device_cost: Any) -> None:
    slow, fast = device_cost(base_ms=60, ms_per_megapixel=4882), device_cost()
    simulation = saturated(simulate, [slow, fast], 200)
    slow_rate = 8 / 0.22
    assert simulation.throughput(1) > 0.97 * (IDEAL + slow_rate)
    assert simulation.devices[0].busy_s > 5


def test_a_slow_device_does_not_make_light_load_slower(simulate: Any, device_cost: Any) -> None:
    slow = device_cost(base_ms=60, ms_per_megapixel=4882)
    worst = []
    for costs in ([device_cost()], [slow, device_cost()]):
        simulation = simulate(costs, seed=4)
        simulation.poisson(0.3 * IDEAL, until=19)
        simulation.run(20)
        worst.append(np.quantile(simulation.latencies(1), 0.99))
    assert worst[1] < 1.1 * worst[0]


def test_a_device_that_hangs_holds_up_nothing_but_its_own_run(simulate: Any, device_cost: Any) -> None:
    def hangs_once(pixels: int, count: int, calls: list[int] = []) -> float:  # noqa: B006 - counts over the calls
        calls.append(count)
        return 1e6 if len(calls) == 30 else float(device_cost()(pixels, count))

    simulation = simulate([device_cost(base_ms=9), hangs_once])
    simulation.poisson(0.4 * IDEAL, until=9)
    simulation.run(10)
    unanswered = [request for request in simulation.requests if request.ended_at is None]
    assert 0 < len(unanswered) <= 16
    assert np.quantile(simulation.latencies(5), 0.99) < 0.06


def test_a_device_that_leaves_hands_its_tiles_over_and_what_waits_goes_to_the_other(
    simulate: Any, device_cost: Any
) -> None:
    simulation = simulate([device_cost()] * 2)
    requests = [simulation.send() for _ in range(30)]
    simulation.run(0.004)
    handed_over = simulation.batcher.leave(simulation.devices[0].device)
    ((_, _, running),) = simulation.devices[0].runs
    assert handed_over[:8] == running.tiles
    assert len(handed_over) == 16  # with those begun ahead
    simulation.run(1)
    others = [request for request in requests if request.tile not in handed_over]
    assert all(request.restored for request in others)
    assert [len(batch.tiles) for _, _, batch in simulation.devices[1].runs] == [8, 6]
