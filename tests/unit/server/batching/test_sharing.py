"""The sharing: lanes join a run where that takes less time than runs apart, and not otherwise."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.batching.choice import Choice, choose
from server.batching.device import Device
from server.batching.job import Canvas, Job, Priority
from server.batching.lane import Lane
from server.batching.sharing import shared

FIXED_S, S_A_PIXEL = 0.006, 7.6e-9
MAX_BATCH = 8
NOW = 1.0


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def a_device(fixed_s: float = FIXED_S, max_run_pixels: int = 2_097_152) -> Device:
    device = Device("sim", MAX_BATCH, max_run_pixels)
    for side, count in ((64, 1), (64, 8), (512, 1), (512, 4)):
        device.cost_model.observe((side, side), count, fixed_s + count * side * side * S_A_PIXEL)
    device.masks = True
    return device


def a_lane(
    loop: asyncio.AbstractEventLoop,
    canvas: Canvas,
    count: int = 1,
    deadline: float | None = None,
    priority: Priority = Priority.INTERACTIVE,
) -> Lane:
    lane = Lane(canvas)
    pixels = np.broadcast_to(np.float32(0), (3, *canvas))
    for _ in range(count):
        lane.add(Job(pixels, loop.create_future(), NOW - 0.01, deadline, priority))
    return lane


def the_run(lanes: list[Lane], device: Device, canvases: tuple[Canvas, ...] = ()) -> Choice:
    run = choose(lanes, device, NOW)
    assert run is not None
    return shared(run, lanes, canvases, device, NOW)


def test_two_sizes_that_are_near_share_the_larger_ones_canvas(loop: asyncio.AbstractEventLoop) -> None:
    lanes = [a_lane(loop, Canvas(256, 320)), a_lane(loop, Canvas(256, 256))]
    run = the_run(lanes, a_device())
    assert (run.canvas, run.images) == (Canvas(256, 320), 2)


def test_a_canvas_that_the_device_has_refused_is_left_out(loop: asyncio.AbstractEventLoop) -> None:
    lanes, device = [a_lane(loop, Canvas(256, 320)), a_lane(loop, Canvas(256, 256))], a_device()
    device.untaken.add(Canvas(256, 320))
    assert the_run(lanes, device).canvas is None
    assert the_run(lanes, device, (Canvas(256, 320), Canvas(320, 320))).canvas == Canvas(320, 320)


def test_sizes_that_do_not_hold_each_other_need_a_canvas_that_holds_both(loop: asyncio.AbstractEventLoop) -> None:
    lanes = [a_lane(loop, Canvas(256, 320)), a_lane(loop, Canvas(320, 256))]
    assert the_run(lanes, a_device()).canvas is None
    assert the_run(lanes, a_device(), (Canvas(512, 512), Canvas(320, 320))).canvas == Canvas(320, 320)


def test_until_canvases_were_chosen_the_larger_size_that_waits_stands_in(loop: asyncio.AbstractEventLoop) -> None:
    small, large = a_lane(loop, Canvas(256, 256)), a_lane(loop, Canvas(256, 320))
    run = Choice(small, 1, a_device().predict(small.canvas, 1))
    assert shared(run, [small, large], (), a_device(), NOW).canvas == large.canvas


def test_a_small_image_does_not_run_in_the_canvas_of_a_large_one(loop: asyncio.AbstractEventLoop) -> None:
    lanes = [a_lane(loop, Canvas(1024, 1024)), a_lane(loop, Canvas(256, 256))]
    assert the_run(lanes, a_device(), (Canvas(1024, 1024),)).canvas is None


def test_where_runs_have_no_fixed_cost_nothing_is_padded(loop: asyncio.AbstractEventLoop) -> None:
    lanes = [a_lane(loop, Canvas(256, 320)), a_lane(loop, Canvas(256, 256))]
    assert the_run(lanes, a_device(fixed_s=0.0)).canvas is None


def test_a_lane_that_fills_a_run_runs_by_itself(loop: asyncio.AbstractEventLoop) -> None:
    lanes = [a_lane(loop, Canvas(256, 320), MAX_BATCH), a_lane(loop, Canvas(256, 256))]
    run = the_run(lanes, a_device())
    assert (run.lane, run.canvas) == (lanes[0], None)
    run = the_run([a_lane(loop, Canvas(256, 320)), a_lane(loop, Canvas(256, 256), MAX_BATCH)], a_device())
    assert run.canvas is None


def test_a_deadline_that_the_run_keeps_alone_is_kept(loop: asyncio.AbstractEventLoop) -> None:
    device = a_device()
    alone = device.predict(Canvas(256, 320), 1)
    lanes = [a_lane(loop, Canvas(256, 320), deadline=NOW + alone + 1e-4), a_lane(loop, Canvas(256, 256))]
    run = shared(Choice(lanes[0], 1, alone), lanes, (), device, NOW)
    assert run.canvas is None


def test_a_deadline_that_leaves_time_for_some_is_kept_by_a_shared_run_of_so_many(
    loop: asyncio.AbstractEventLoop,
) -> None:
    device, large = a_device(), Canvas(256, 320)
    three = device.predict(large, 3)
    lanes = [a_lane(loop, large, deadline=NOW + three + 1e-4)]
    lanes += [a_lane(loop, Canvas(256, width)) for width in (64, 128, 192, 256)]
    run = shared(Choice(lanes[0], 1, device.predict(large, 1)), lanes, (large,), device, NOW)
    assert (run.canvas, run.images) == (large, 3)


def test_batch_jobs_do_not_lengthen_an_interactive_run(loop: asyncio.AbstractEventLoop) -> None:
    lanes = [a_lane(loop, Canvas(256, 320)), a_lane(loop, Canvas(256, 256), priority=Priority.BATCH)]
    assert the_run(lanes, a_device()).canvas is None


waiting = st.dictionaries(
    st.tuples(st.integers(1, 16), st.integers(1, 16)).map(lambda size: Canvas(size[0] * 64, size[1] * 64)),
    st.integers(1, 12),
    min_size=1,
    max_size=10,
)


@given(counts=waiting, fixed_ms=st.floats(0, 20))
@settings(deadline=None)
def test_a_shared_run_takes_less_time_than_its_jobs_apart_and_holds_them_all(
    loop: asyncio.AbstractEventLoop, counts: dict[Canvas, int], fixed_ms: float
) -> None:
    device = a_device(fixed_ms / 1e3)
    lanes = [a_lane(loop, canvas, count) for canvas, count in counts.items()]
    run = the_run(lanes, device, (Canvas(512, 512), Canvas(1024, 1024)))
    if run.canvas is None:
        assert not run.joins
        return
    parts = [(run.lane, run.count), *run.joins]
    assert len({lane.canvas for lane, _ in parts}) == len(parts)
    assert all(lane.canvas[0] <= run.canvas[0] and lane.canvas[1] <= run.canvas[1] for lane, _ in parts)
    assert run.images <= device.room(run.canvas)
    apart = sum(device.predict(lane.canvas, count) for lane, count in parts)
    assert run.seconds == pytest.approx(device.predict(run.canvas, run.images))
    assert run.seconds < apart
