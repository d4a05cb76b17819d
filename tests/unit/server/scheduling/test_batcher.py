"""Tests of the Batcher."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from devices import a_device, loaded
from prometheus_client import CollectorRegistry

from server.backends.base import Pixels, Result
from server.errors import DeadlineExceeded, Draining, NotReady
from server.metrics import Metrics
from server.scheduling.batcher import Batcher
from server.scheduling.policy.device import Device
from server.scheduling.queue.tile import Batch, Completion, PaddedShape, settle_soon
from server.scheduling.queue.tile_queue import TileQueue

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]
Make = Callable[..., Batcher]
ANY_NUMBER = 1_000_000_000
MAX_BATCH = 3


@pytest.fixture
def make(clock: Any, metrics: Metrics) -> Make:
    def batcher(max_backlog_s: float = ANY_NUMBER, max_pixels: int = ANY_NUMBER) -> Batcher:
        batcher = Batcher(TileQueue(max_pixels), metrics, clock, max_backlog_s=max_backlog_s)
        batcher.join(a_device("0", MAX_BATCH))
        return batcher

    return batcher


async def _turns() -> None:
    """Let every ready task and callback run; an answer needs three turns of the loop to reach its caller."""
    for _ in range(5):
        await asyncio.sleep(0)


async def _submitted(batcher: Batcher, *tiles: Pixels, deadline: float | None = None) -> list[asyncio.Task[Completion]]:
    tasks = [asyncio.create_task(batcher.submit(pixels, deadline)) for pixels in tiles]
    await _turns()
    return tasks


def _device(batcher: Batcher) -> Device:
    return batcher.devices["0"]


def _poll(batcher: Batcher, **options: Any) -> Batch | None:
    return batcher.poll(_device(batcher), **options)


def _run(batcher: Batcher, batch: Batch, seconds: float = 0.0) -> None:
    """Do to a batch what the worker does, with the identity as the network."""
    settle_soon(batch.tiles, batch.outcomes(Result(batch.stack()), batch.taken_at, seconds))
    batcher.finished(_device(batcher), batch, seconds)
    batcher.queue.release(batch.tiles)


def test_whatever_waits_becomes_one_batch_without_a_timer(make: Make, play: Play, make_pixels: MakePixels) -> None:
    async def scenario() -> None:
        batcher = make()
        tasks = await _submitted(batcher, make_pixels(value=1), make_pixels(value=2))
        batch = _poll(batcher)
        assert batch is not None
        assert len(batch.tiles) == 2
        _run(batcher, batch)
        first, second = await asyncio.gather(*tasks)
        assert (first.output.max(), second.output.max()) == (1, 2)
        assert _poll(batcher) is None

    play(scenario())


def test_the_wait_in_the_queue_is_measured_on_the_clock(
    make: Make, play: Play, make_pixels: MakePixels, clock: Any
) -> None:
    async def scenario() -> None:
        batcher = make()
        (task,) = await _submitted(batcher, make_pixels())
        clock.advance(1.5)
        batch = _poll(batcher)
        assert batch is not None
        _run(batcher, batch, seconds=0.25)
        completion = await task
        assert (completion.queue_s, completion.inference_s) == (1.5, 0.25)

    play(scenario())


def test_a_cancelled_tile_leaves_the_queue_at_once(
    make: Make, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make()
        (task,) = await _submitted(batcher, make_pixels())
        task.cancel()
        await _turns()
        assert task.cancelled()
        assert batcher.queue.tiles == 0
        assert _poll(batcher) is None

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "cancelled"}) == 1


def test_a_tile_cancelled_during_its_run_does_not_disturb_its_neighbour(
    make: Make, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make()
        leaver, stayer = await _submitted(batcher, make_pixels(value=1), make_pixels(value=2))
        batch = _poll(batcher)
        assert batch is not None
        leaver.cancel()
        _run(batcher, batch)
        assert (await stayer).output.max() == 2
        assert leaver.cancelled()

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "abandoned"}) == 1
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "cancelled"}) == 0


def test_a_tile_popped_between_its_cancellation_and_its_callers_next_turn_is_cancelled_once(
    make: Make, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make()
        (task,) = await _submitted(batcher, make_pixels())
        task.cancel()
        assert _poll(batcher) is None
        await _turns()
        assert task.cancelled()

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "cancelled"}) == 1
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "abandoned"}) == 0


def test_a_tile_whose_deadline_passes_while_it_waits_never_runs(
    make: Make, play: Play, make_pixels: MakePixels, clock: Any, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make()
        (task,) = await _submitted(batcher, make_pixels(), deadline=clock.now + 1)
        clock.advance(1)
        assert _poll(batcher) is None
        with pytest.raises(DeadlineExceeded):
            await task

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "expired"}) == 1


def test_a_deadline_already_passed_is_refused_before_it_waits(
    make: Make, play: Play, make_pixels: MakePixels, clock: Any
) -> None:
    async def scenario() -> None:
        batcher = make()
        with pytest.raises(DeadlineExceeded):
            await batcher.submit(make_pixels(), deadline=clock.now)
        assert batcher.queue.tiles == 0

    play(scenario())


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((3, 8, 8)), np.zeros((1, 3, 8, 8), np.float32), np.zeros((4, 8, 8), np.float32)],
    ids=["float64", "already a batch", "four channels"],
)
def test_an_array_that_would_fail_its_neighbours_is_not_queued(make: Make, play: Play, wrong: Any) -> None:
    async def scenario() -> None:
        batcher = make()
        with pytest.raises(ValueError, match="a tile is float32"):
            await batcher.submit(wrong)
        assert batcher.queue.tiles == 0

    play(scenario())


def test_a_deadline_ends_a_waiting_tile_while_the_device_is_busy(
    make: Make, play: Play, make_pixels: MakePixels, clock: Any, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make()
        (running,) = await _submitted(batcher, make_pixels())
        batch = _poll(batcher)
        assert batch is not None
        (waiting,) = await _submitted(batcher, make_pixels(), deadline=clock.now + 0.001)
        clock.advance(1)
        with pytest.raises(DeadlineExceeded):
            await waiting
        assert batcher.queue.tiles == 0
        _run(batcher, batch)
        await running

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "expired"}) == 1


def test_a_failed_run_teaches_the_cost_model_nothing(make: Make, play: Play, make_pixels: MakePixels) -> None:
    async def scenario() -> None:
        batcher = make()
        device = _device(batcher)
        loaded(device).cost_model.observe(PaddedShape(8, 8), 1, 10.0)
        (task,) = await _submitted(batcher, make_pixels())
        batch = _poll(batcher)
        assert batch is not None
        batcher.finished(device, batch, None)
        assert device.is_idle
        assert device.predict(PaddedShape(8, 8), 1) == pytest.approx(10.0)
        task.cancel()

    play(scenario())


def test_the_depth_of_the_queue_is_in_the_metrics(
    make: Make, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make()
        tasks = await _submitted(batcher, make_pixels(8, 16), make_pixels())
        assert registry.get_sample_value("promptir_queue_tiles") == 2
        assert registry.get_sample_value("promptir_queue_pixels") == 192
        for task in tasks:
            task.cancel()

    play(scenario())


def test_next_batch_is_none_once_the_queue_is_closed_and_empty(make: Make, play: Play, make_pixels: MakePixels) -> None:
    async def scenario() -> None:
        batcher = make()
        (task,) = await _submitted(batcher, make_pixels())
        batcher.queue.close(lambda: Draining("stopping"))
        batch = batcher.next_batch(_device(batcher))
        assert batch is not None
        _run(batcher, batch)
        await task
        assert batcher.next_batch(_device(batcher)) is None
        with pytest.raises(Draining):
            await batcher.submit(make_pixels())

    play(scenario())


def test_before_the_worker_opens_the_queue_nothing_waits(
    clock: Any, metrics: Metrics, play: Play, make_pixels: MakePixels
) -> None:
    async def scenario() -> None:
        with pytest.raises(NotReady):
            await Batcher(TileQueue(ANY_NUMBER), metrics, clock).submit(make_pixels())

    play(scenario())


def test_without_a_device_what_waits_stays_and_new_tiles_are_refused(
    make: Make, play: Play, make_pixels: MakePixels
) -> None:
    async def scenario() -> None:
        batcher = make()
        device = _device(batcher)
        running, waiting = await _submitted(batcher, make_pixels(8, 8), make_pixels(8, 16))
        batch = batcher.poll(device)
        assert batch is not None
        assert batcher.leave(device) == batch.tiles
        assert batcher.leave(device) == []
        assert batcher.next_batch(device) is None
        with pytest.raises(NotReady):
            await batcher.submit(make_pixels())
        batcher.join(a_device("0", 1, cost_model=loaded(device).cost_model))
        again = _poll(batcher)
        assert again is not None
        _run(batcher, again)
        assert (await waiting).batch_size == 1
        running.cancel()

    play(scenario())


def test_a_waiting_thread_is_woken_by_a_tile_by_the_close_and_by_its_leaving(
    make: Make, play: Play, make_pixels: MakePixels
) -> None:
    async def scenario() -> None:
        batcher = make()
        device = _device(batcher)
        waits = asyncio.create_task(asyncio.to_thread(batcher.next_batch, device))
        (task,) = await _submitted(batcher, make_pixels())
        batch = await waits
        _run(batcher, batch)
        await task
        waits = asyncio.create_task(asyncio.to_thread(batcher.next_batch, device))
        await _turns()
        batcher.leave(device)
        assert await waits is None
        batcher.join(device)
        waits = asyncio.create_task(asyncio.to_thread(batcher.next_batch, device))
        await _turns()
        batcher.queue.close(lambda: Draining("stopping"))
        assert await waits is None

    play(scenario())
