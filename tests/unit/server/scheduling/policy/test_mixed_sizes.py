"""The sharing: buckets join a run where that takes less time than runs apart, and not otherwise."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.scheduling.policy.choice import Choice, choose
from server.scheduling.policy.device import Device
from server.scheduling.policy.mixed_sizes import shared
from server.scheduling.queue.bucket import ShapeBucket
from server.scheduling.queue.tile import PaddedShape, Priority, Tile

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


def a_bucket(
    loop: asyncio.AbstractEventLoop,
    padded_shape: PaddedShape,
    count: int = 1,
    deadline: float | None = None,
    priority: Priority = Priority.INTERACTIVE,
) -> ShapeBucket:
    bucket = ShapeBucket(padded_shape)
    pixels = np.broadcast_to(np.float32(0), (3, *padded_shape))
    for _ in range(count):
        bucket.add(Tile(pixels, loop.create_future(), NOW - 0.01, deadline, priority))
    return bucket


def the_run(buckets: list[ShapeBucket], device: Device, padded_shapes: tuple[PaddedShape, ...] = ()) -> Choice:
    run = choose(buckets, device, NOW)
    assert run is not None
    return shared(run, buckets, padded_shapes, device, NOW)


def test_two_sizes_that_are_near_share_the_larger_ones_padded_shape(loop: asyncio.AbstractEventLoop) -> None:
    buckets = [a_bucket(loop, PaddedShape(256, 320)), a_bucket(loop, PaddedShape(256, 256))]
    run = the_run(buckets, a_device())
    assert (run.padded_shape, run.images) == (PaddedShape(256, 320), 2)


def test_a_padded_shape_that_the_device_has_refused_is_left_out(loop: asyncio.AbstractEventLoop) -> None:
    buckets, device = [a_bucket(loop, PaddedShape(256, 320)), a_bucket(loop, PaddedShape(256, 256))], a_device()
    device.untaken.add(PaddedShape(256, 320))
    assert the_run(buckets, device).padded_shape is None
    assert the_run(buckets, device, (PaddedShape(256, 320), PaddedShape(320, 320))).padded_shape == PaddedShape(
        320, 320
    )


def test_sizes_that_do_not_hold_each_other_need_a_padded_shape_that_holds_both(loop: asyncio.AbstractEventLoop) -> None:
    buckets = [a_bucket(loop, PaddedShape(256, 320)), a_bucket(loop, PaddedShape(320, 256))]
    assert the_run(buckets, a_device()).padded_shape is None
    assert the_run(buckets, a_device(), (PaddedShape(512, 512), PaddedShape(320, 320))).padded_shape == PaddedShape(
        320, 320
    )


def test_until_padded_shapes_were_chosen_the_larger_size_that_waits_stands_in(loop: asyncio.AbstractEventLoop) -> None:
    small, large = a_bucket(loop, PaddedShape(256, 256)), a_bucket(loop, PaddedShape(256, 320))
    run = Choice(small, 1, a_device().predict(small.padded_shape, 1))
    assert shared(run, [small, large], (), a_device(), NOW).padded_shape == large.padded_shape


def test_a_small_image_does_not_run_in_the_padded_shape_of_a_large_one(loop: asyncio.AbstractEventLoop) -> None:
    buckets = [a_bucket(loop, PaddedShape(1024, 1024)), a_bucket(loop, PaddedShape(256, 256))]
    assert the_run(buckets, a_device(), (PaddedShape(1024, 1024),)).padded_shape is None


def test_where_runs_have_no_fixed_cost_nothing_is_padded(loop: asyncio.AbstractEventLoop) -> None:
    buckets = [a_bucket(loop, PaddedShape(256, 320)), a_bucket(loop, PaddedShape(256, 256))]
    assert the_run(buckets, a_device(fixed_s=0.0)).padded_shape is None


def test_a_bucket_that_fills_a_run_runs_by_itself(loop: asyncio.AbstractEventLoop) -> None:
    buckets = [a_bucket(loop, PaddedShape(256, 320), MAX_BATCH), a_bucket(loop, PaddedShape(256, 256))]
    run = the_run(buckets, a_device())
    assert (run.bucket, run.padded_shape) == (buckets[0], None)
    run = the_run([a_bucket(loop, PaddedShape(256, 320)), a_bucket(loop, PaddedShape(256, 256), MAX_BATCH)], a_device())
    assert run.padded_shape is None


def test_a_deadline_that_the_run_keeps_alone_is_kept(loop: asyncio.AbstractEventLoop) -> None:
    device = a_device()
    alone = device.predict(PaddedShape(256, 320), 1)
    buckets = [
        a_bucket(loop, PaddedShape(256, 320), deadline=NOW + alone + 1e-4),
        a_bucket(loop, PaddedShape(256, 256)),
    ]
    run = shared(Choice(buckets[0], 1, alone), buckets, (), device, NOW)
    assert run.padded_shape is None


def test_a_deadline_that_leaves_time_for_some_is_kept_by_a_shared_run_of_so_many(
    loop: asyncio.AbstractEventLoop,
) -> None:
    device, large = a_device(), PaddedShape(256, 320)
    three = device.predict(large, 3)
    buckets = [a_bucket(loop, large, deadline=NOW + three + 1e-4)]
    buckets += [a_bucket(loop, PaddedShape(256, width)) for width in (64, 128, 192, 256)]
    run = shared(Choice(buckets[0], 1, device.predict(large, 1)), buckets, (large,), device, NOW)
    assert (run.padded_shape, run.images) == (large, 3)


def test_batch_tiles_do_not_lengthen_an_interactive_run(loop: asyncio.AbstractEventLoop) -> None:
    buckets = [a_bucket(loop, PaddedShape(256, 320)), a_bucket(loop, PaddedShape(256, 256), priority=Priority.BATCH)]
    assert the_run(buckets, a_device()).padded_shape is None


waiting = st.dictionaries(
    st.tuples(st.integers(1, 16), st.integers(1, 16)).map(lambda size: PaddedShape(size[0] * 64, size[1] * 64)),
    st.integers(1, 12),
    min_size=1,
    max_size=10,
)


@given(counts=waiting, fixed_ms=st.floats(0, 20))
@settings(deadline=None)
def test_a_shared_run_takes_less_time_than_its_tiles_apart_and_holds_them_all(
    loop: asyncio.AbstractEventLoop, counts: dict[PaddedShape, int], fixed_ms: float
) -> None:
    device = a_device(fixed_ms / 1e3)
    buckets = [a_bucket(loop, padded_shape, count) for padded_shape, count in counts.items()]
    run = the_run(buckets, device, (PaddedShape(512, 512), PaddedShape(1024, 1024)))
    if run.padded_shape is None:
        assert not run.joins
        return
    parts = [(run.bucket, run.count), *run.joins]
    assert len({bucket.padded_shape for bucket, _ in parts}) == len(parts)
    assert all(
        bucket.padded_shape[0] <= run.padded_shape[0] and bucket.padded_shape[1] <= run.padded_shape[1]
        for bucket, _ in parts
    )
    assert run.images <= device.room(run.padded_shape)
    apart = sum(device.predict(bucket.padded_shape, count) for bucket, count in parts)
    assert run.seconds == pytest.approx(device.predict(run.padded_shape, run.images))
    assert run.seconds < apart
