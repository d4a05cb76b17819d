"""Tests of what mixed-size batches save of a backlog: the dry run of the planner's rules, and who asks for it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from devices import a_device as new_device
from devices import loaded
from hypothesis import given, settings
from hypothesis import strategies as st

from server.metrics import Metrics
from server.scheduling.batcher import Batcher
from server.scheduling.policy.device import Device
from server.scheduling.policy.mixed_sizes import saved_s
from server.scheduling.queue.tile import PaddedShape, Priority, Tile
from server.scheduling.queue.tile_queue import TileQueue

FIXED_S, S_A_PIXEL = 0.006, 7.6e-9
SQUARE, WIDE, LARGE = PaddedShape(256, 256), PaddedShape(256, 320), PaddedShape(1024, 1024)


def a_device(fixed_s: float = FIXED_S, name: str = "sim") -> Device:
    device = new_device(name, 8, 2_097_152)
    for side, count in ((64, 1), (64, 8), (512, 1), (512, 4)):
        loaded(device).cost_model.observe(PaddedShape(side, side), count, fixed_s + count * side * side * S_A_PIXEL)
    loaded(device).mixes_sizes = True
    return device


def test_two_sizes_in_one_run_save_a_run_less_their_padding() -> None:
    padding = (WIDE.pixels - SQUARE.pixels) * S_A_PIXEL
    assert saved_s({SQUARE: 2, WIDE: 1}, (WIDE,), a_device()) == pytest.approx(FIXED_S - 2 * padding, rel=1e-3)


def test_nothing_is_saved_without_a_padded_shape_that_holds_both() -> None:
    assert saved_s({SQUARE: 1, WIDE: 1}, (), a_device()) == 0
    assert saved_s({SQUARE: 1, WIDE: 1}, (SQUARE,), a_device()) == 0


def test_a_padded_shape_that_the_device_has_refused_saves_nothing() -> None:
    device = a_device()
    loaded(device).unsupported_shapes.add(WIDE)
    assert saved_s({SQUARE: 1, WIDE: 1}, (WIDE,), device) == 0


def test_padding_that_costs_more_than_a_run_saves_nothing() -> None:
    assert saved_s({SQUARE: 1, LARGE: 1}, (LARGE,), a_device()) == 0


def test_full_runs_are_not_shared_and_their_rest_is() -> None:
    full = saved_s({SQUARE: 8, WIDE: 1}, (WIDE,), a_device())
    assert full == 0
    assert saved_s({SQUARE: 9, WIDE: 1}, (WIDE,), a_device()) == saved_s({SQUARE: 1, WIDE: 1}, (WIDE,), a_device())


def test_a_run_with_room_left_is_shared_again_in_a_larger_padded_shape() -> None:
    larger = PaddedShape(320, 320)
    waiting = {SQUARE: 1, WIDE: 1, larger: 1}
    assert saved_s(waiting, (WIDE, larger), a_device()) > saved_s(waiting, (WIDE,), a_device()) > 0


def test_runs_longer_than_the_bound_are_not_shared() -> None:
    assert saved_s({SQUARE: 1, WIDE: 1}, (WIDE,), a_device(), longest_s=FIXED_S) == 0


waiting = st.dictionaries(
    st.tuples(st.integers(1, 16), st.integers(1, 16)).map(lambda size: PaddedShape(size[0] * 64, size[1] * 64)),
    st.integers(0, 20),
    max_size=12,
)


@given(counts=waiting, fixed_ms=st.floats(0, 20))
@settings(deadline=None)
def test_no_more_is_saved_than_the_fixed_costs_of_all_runs_but_those_that_are_needed(
    counts: dict[PaddedShape, int], fixed_ms: float
) -> None:
    device = a_device(fixed_ms / 1e3)
    saved = saved_s(counts, (PaddedShape(256, 256), PaddedShape(512, 512), PaddedShape(1024, 1024)), device)
    runs = sum(-(-count // device.room(padded_shape)) for padded_shape, count in counts.items())
    needed = -(-sum(counts.values()) // loaded(device).max_batch)
    assert -1e-9 <= saved <= (runs - needed) * fixed_ms / 1e3 * (1 + 1e-6) + 1e-6


@pytest.fixture
def batcher(metrics: Metrics, clock: Any) -> Batcher:
    return Batcher(TileQueue(10**12), metrics, clock, padded_shapes=[WIDE])


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def send(batcher: Batcher, loop: Any, make_pixels: Any, *tiles: tuple[PaddedShape, Priority]) -> None:
    for padded_shape, priority in tiles:
        batcher.enqueue(Tile(make_pixels(*padded_shape[:2]), loop.create_future(), 100.0, priority=priority))


def test_the_backlog_falls_when_a_device_comes_that_shares(batcher: Batcher, loop: Any, make_pixels: Any) -> None:
    plain = a_device()
    loaded(plain).mixes_sizes = False
    batcher.join(plain)
    send(batcher, loop, make_pixels, (SQUARE, Priority.INTERACTIVE), (WIDE, Priority.INTERACTIVE))
    apart = batcher.backlog_s()
    batcher.join(a_device())
    assert batcher.backlog_s() == pytest.approx(apart - saved_s({SQUARE: 1, WIDE: 1}, (WIDE,), a_device()))


def test_what_is_known_of_the_queue_is_forgotten_when_it_changes(batcher: Batcher, loop: Any, make_pixels: Any) -> None:
    batcher.join(a_device())
    send(batcher, loop, make_pixels, (SQUARE, Priority.INTERACTIVE))
    alone = batcher.backlog_s()
    send(batcher, loop, make_pixels, (WIDE, Priority.INTERACTIVE))
    device = a_device()
    together = device.predict(WIDE, 2)
    assert batcher.backlog_s() == pytest.approx(together, rel=1e-3)
    assert alone < together


@pytest.mark.parametrize(
    ("first", "second"), [(Priority.INTERACTIVE, Priority.BATCH), (Priority.BATCH, Priority.INTERACTIVE)]
)
def test_the_classes_do_not_share_a_run_with_each_other(
    batcher: Batcher, loop: Any, make_pixels: Any, first: Priority, second: Priority
) -> None:
    batcher.join(a_device())
    send(batcher, loop, make_pixels, (SQUARE, first), (WIDE, second))
    device = a_device()
    assert batcher.backlog_s() == pytest.approx(device.predict(SQUARE, 1) + device.predict(WIDE, 1))


def test_tiles_that_are_still_to_come_count_as_apart(batcher: Batcher, loop: Any, make_pixels: Any) -> None:
    batcher.join(a_device())
    send(batcher, loop, make_pixels, (SQUARE, Priority.BATCH), (WIDE, Priority.BATCH))
    shared = batcher.backlog_s()
    batcher.admission.reserve(WIDE, 1)
    device = a_device()
    assert batcher.backlog_s() == pytest.approx(device.predict(SQUARE, 1) + device.predict(WIDE, 2))
    batcher.admission.reserve(WIDE, -1)
    assert batcher.backlog_s() == pytest.approx(shared)
