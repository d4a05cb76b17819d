"""Simulations of random loads: whatever comes, each tile ends once, and each run keeps to the rules."""

from collections import Counter
from typing import Any

from devices import loaded
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import DeadlineExceeded, QueueFull
from server.scheduling.queue.tile import Completion, Priority

SIDES = (8, 16, 24, 40)
RUN_PIXELS = 3 * 40 * 40
MAX_BATCH = 4
LOAD = st.lists(
    st.tuples(
        st.floats(0, 0.03),  # pause before it is sent
        st.sampled_from(SIDES),
        st.one_of(st.none(), st.floats(0.001, 0.2)),  # patience
        st.sampled_from(Priority),
        st.one_of(st.none(), st.none(), st.floats(0, 0.05)),  # when its client leaves, if it does
    ),
    min_size=1,
    max_size=60,
)


def played(simulate: Any, device_cost: Any, load: list[Any], devices: int, ahead_s: float, bound_s: float) -> Any:
    simulation = simulate(
        [device_cost(base_ms=6 + 3 * number) for number in range(devices)],
        max_batch=MAX_BATCH,
        max_backlog_s=bound_s,
        ahead_s=ahead_s,
        turnaround_s=0.0005,
    )
    for simulated in simulation.devices:
        loaded(simulated.device).max_run_pixels = RUN_PIXELS
    when = 0.0
    for pause, side, patience_s, priority, leaves_s in load:
        when += pause

        def send(
            side: int = side, patience_s: Any = patience_s, priority: Any = priority, leaves_s: Any = leaves_s
        ) -> None:
            request = simulation.send(side, patience_s=patience_s, priority=priority)
            if leaves_s is not None:
                simulation.at(simulation.now + leaves_s, lambda: simulation.leave(request))

        simulation.at(when, send)
    simulation.run(when + 60)
    return simulation


@settings(deadline=None, max_examples=150)
@given(
    load=LOAD,
    devices=st.integers(1, 3),
    ahead_s=st.sampled_from([0.0, 0.001]),
    bound_s=st.sampled_from([1e9, 0.05]),
)
def test_every_tile_ends_exactly_once_and_every_run_keeps_to_its_budget(
    simulate: Any, device_cost: Any, load: list[Any], devices: int, ahead_s: float, bound_s: float
) -> None:
    simulation = played(simulate, device_cost, load, devices, ahead_s, bound_s)
    for request in simulation.requests:  # an answer that came twice would have failed in the simulation
        assert request.ended_at is not None
        assert isinstance(request.outcome, Completion | QueueFull | DeadlineExceeded) or request.outcome == "cancelled"
    ran = Counter(id(tile) for device in simulation.devices for _, _, batch in device.runs for tile in batch.tiles)
    assert set(ran.values()) <= {1}
    assert all(ran[id(request.tile)] == 1 for request in simulation.requests if request.restored)
    assert not any(ran[id(request.tile)] for request in simulation.requests if isinstance(request.outcome, QueueFull))
    queue = simulation.batcher.queue
    assert (queue.tiles, queue.pixels, queue.running, simulation.batcher.backlog_s()) == (0, 0, [], 0)


@settings(deadline=None, max_examples=150)
@given(load=LOAD, devices=st.integers(1, 2), ahead_s=st.sampled_from([0.0, 0.001]))
def test_every_run_is_of_one_shape_within_its_budgets_and_by_deadline_inside_a_class(
    simulate: Any, device_cost: Any, load: list[Any], devices: int, ahead_s: float
) -> None:
    simulation = played(simulate, device_cost, load, devices, ahead_s, 1e9)
    for device in simulation.devices:
        for _, _, batch in device.runs:
            assert len({tile.padded_shape for tile in batch.tiles}) == 1
            assert len(batch.tiles) <= MAX_BATCH
            assert len(batch.tiles) == 1 or batch.pixel_count <= RUN_PIXELS
            for priority in Priority:
                due = [tile.due for tile in batch.tiles if tile.priority is priority]
                assert due == sorted(due)
            # Nobody of its class and padded shape who was there and more urgent was left behind.
            for other in (request.tile for request in simulation.requests):
                for tile in batch.tiles:
                    if (
                        other.padded_shape == tile.padded_shape
                        and other.priority is tile.priority
                        and other.due < tile.due
                    ):
                        assert other.enqueued_at >= batch.taken_at or _gone(simulation, other, batch)


def _gone(simulation: Any, tile: Any, batch: Any) -> bool:
    """Whether a tile was no longer waiting when a batch was taken, or went with it."""
    if tile in batch.tiles:
        return True
    request = next(request for request in simulation.requests if request.tile is tile)
    if request.ended_at <= batch.taken_at:
        return True
    taken = [other.taken_at for device in simulation.devices for _, _, other in device.runs if tile in other.tiles]
    return bool(taken) and taken[0] <= batch.taken_at
