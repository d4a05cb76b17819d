"""Simulations of fairness: between sizes, between classes, between deadlines."""

from typing import Any

import numpy as np
import pytest

from server.scheduling.policy.planner import BATCH_SHARE_RUNS
from server.scheduling.queue.tile import BATCH_PATIENCE_S, STARVATION_S, Priority

FULL_RUN_S = 0.022
"""Eight images of 64x64 on the device of the simulations."""
IDEAL = 8 / FULL_RUN_S


def crowd(simulation: Any, clients: int = 40, **options: Any) -> None:
    """More clients of 64x64 than two full runs need: their bucket is full at every choice."""
    for _ in range(clients):
        simulation.client(lambda: 0.002, **options)


def test_a_lone_odd_size_waits_at_most_its_bound_and_one_run_under_full_load_of_another(simulate: Any) -> None:
    simulation = simulate()
    crowd(simulation)
    odd = []
    for number in range(40):
        simulation.at(1 + 0.37 * number, lambda: odd.append(simulation.send(72)))
    simulation.run(18)
    own_s = simulation.devices[0].cost(72 * 72, 1)
    assert max(request.latency for request in odd) <= STARVATION_S + FULL_RUN_S + own_s + 1e-6
    assert simulation.throughput(1) > 0.93 * IDEAL


def test_sizes_under_equal_load_wait_about_equally(simulate: Any, device_cost: Any) -> None:
    simulation = simulate([device_cost(ms_per_megapixel=122.07)])
    for _ in range(48):
        simulation.client(lambda: 0.002, lambda: simulation.random.choice((64, 96, 128)))
    simulation.run(12)
    worst = [np.quantile(simulation.latencies(2, side), 0.99) for side in (64, 96, 128)]
    assert max(worst) < 1.5 * min(worst)


def test_many_odd_sizes_are_served_in_turn(simulate: Any) -> None:
    simulation = simulate()
    crowd(simulation, clients=16)
    for side in range(72, 136, 8):
        simulation.client(lambda: 0.01, lambda side=side: side)
    simulation.run(12)
    counts = [len(simulation.latencies(2, side)) for side in range(72, 136, 8)]
    assert min(counts) > 0.5 * max(counts)


def test_interactive_tiles_do_not_feel_the_batch_class(simulate: Any) -> None:
    alone, beside = simulate(seed=3), simulate(seed=3)
    crowd(beside, priority=Priority.BATCH)
    worst = []
    for simulation in (alone, beside):
        interactive: list[Any] = []

        def arrive(simulation: Any = simulation, interactive: list[Any] = interactive) -> None:
            interactive.append(simulation.send())
            simulation.at(simulation.now + 0.05, arrive)

        simulation.at(1, arrive)
        simulation.run(8)
        worst.append(max(request.latency for request in interactive if request.ended_at))
    # Behind the current run and one that was begun ahead, and in a run that batch tiles fill up.
    assert worst[1] <= worst[0] + 3 * FULL_RUN_S


TILE, TILE_S = 512, 0.134
"""A tile of a large photo, and its run on the same device."""


def test_a_lone_image_waits_for_one_tile_of_a_large_photo_and_not_for_a_run_of_eight(simulate: Any) -> None:
    simulation = simulate()
    for _ in range(16):
        simulation.client(lambda: 0.002, lambda: TILE, priority=Priority.BATCH)
    simulation.run(5)  # the costs are learnt
    small: list[Any] = []
    for number in range(200):
        simulation.at(5 + 0.1 * number, lambda: small.append(simulation.send()))
    simulation.run(26)
    assert max(request.latency for request in small) < TILE_S + 2 * 0.010
    late = [batch for began, _, batch in simulation.devices[0].runs if began > 5]
    tiles = sum(len(batch.tiles) for batch in late if batch.padded_shape[:2] == (TILE, TILE))
    assert tiles * TILE_S > 0.97 * (21 - 200 * 0.008)  # what the small ones leave


def test_long_runs_of_batch_tiles_stay_full_where_that_is_what_makes_them_fast(simulate: Any, device_cost: Any) -> None:
    simulation = simulate([device_cost(base_ms=200)])
    crowd(simulation, priority=Priority.BATCH)
    simulation.run(20)
    late = [batch for began, _, batch in simulation.devices[0].runs if began > 5]
    assert np.mean([len(batch.tiles) for batch in late]) > 7.5


def test_batch_tiles_fill_up_interactive_runs(simulate: Any) -> None:
    simulation = simulate()
    crowd(simulation, priority=Priority.BATCH)
    for _ in range(3):
        simulation.client(lambda: 0.001)
    simulation.run(6)
    mixed = [batch for _, _, batch in simulation.devices[0].runs if len({tile.priority for tile in batch.tiles}) == 2]
    assert mixed
    assert all(len(batch.tiles) == 8 for batch in mixed)
    assert simulation.throughput(1) > 0.97 * IDEAL


def test_the_batch_class_gets_its_share_once_its_patience_is_over(simulate: Any) -> None:
    simulation = simulate()
    crowd(simulation)
    simulation.run(1)
    waiting = [simulation.send(96, priority=Priority.BATCH) for _ in range(8)]
    simulation.run(1 + BATCH_PATIENCE_S)
    assert not any(request.ended_at for request in waiting)
    simulation.run(1 + BATCH_PATIENCE_S + (BATCH_SHARE_RUNS + 3) * FULL_RUN_S)
    assert all(request.restored for request in waiting)


def test_the_overdue_batch_class_leaves_most_runs_to_the_interactive_one(simulate: Any) -> None:
    simulation = simulate()
    for _ in range(2000):
        simulation.send(96, priority=Priority.BATCH)
    crowd(simulation)
    simulation.run(BATCH_PATIENCE_S + 10)
    late = [batch for began, _, batch in simulation.devices[0].runs if began > BATCH_PATIENCE_S + 0.1]
    first = [batch for batch in late if batch.tiles[0].priority is Priority.BATCH]
    assert 0 < len(first) <= len(late) / BATCH_SHARE_RUNS + 1


def test_the_earliest_deadline_goes_first_inside_a_class(simulate: Any) -> None:
    simulation = simulate()
    simulation.send()
    simulation.run(0)  # the device is busy with it
    patience = [0.9, 0.3, 0.7, 0.5, 1.1, 0.4, 0.6, 0.8, 1.0, 0.35, 0.95, 0.45]
    requests = [simulation.send(patience_s=seconds) for seconds in patience]
    simulation.run(1)
    first, second = (batch.tiles for _, _, batch in simulation.devices[0].runs[1:])
    by_deadline = [request.tile for request in sorted(requests, key=lambda request: request.tile.deadline)]
    assert list(first) + list(second) == by_deadline


def test_a_bucket_that_would_miss_its_deadline_goes_before_a_fuller_one(simulate: Any) -> None:
    simulation = simulate()
    simulation.send()
    simulation.run(0)
    for _ in range(8):
        simulation.send()
    pressed = simulation.send(72, patience_s=0.040)  # 8 ms of the current run, 22 of the full bucket, 8.5 its own
    relaxed = simulation.send(80, patience_s=0.500)
    simulation.run(1)
    assert pressed.restored
    assert pressed.latency <= 0.040
    assert relaxed.latency > pressed.latency


@pytest.mark.parametrize("load", [0.7, 2.0])
def test_admitted_tiles_keep_their_deadlines_under_any_load(simulate: Any, load: float) -> None:
    simulation = simulate()
    for patience_s in (0.06, 0.12, 0.4):
        simulation.poisson(load * IDEAL / 3, patience_s=patience_s)
    simulation.run(20)
    ended = [request for request in simulation.requests if request.ended_at is not None]
    admitted = [request for request in ended if request.tile.taken or request.restored]
    late = [request for request in admitted if request.ended_at > request.tile.deadline]
    assert len(late) < 0.03 * len(admitted)
    assert simulation.throughput(2) > (0.6 if load < 1 else 0.9) * IDEAL


def test_expired_tiles_never_reach_the_device(simulate: Any) -> None:
    simulation = simulate(learned=False)  # nothing is predicted yet, so nothing is refused early
    for _ in range(60):
        simulation.send(patience_s=0.05)
    simulation.run(1)
    device = simulation.devices[0]
    assert any(not request.restored for request in simulation.requests)
    assert all(tile.deadline > began for began, _, batch in device.runs for tile in batch.tiles)
