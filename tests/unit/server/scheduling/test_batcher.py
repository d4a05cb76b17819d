"""Tests of the Batcher."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from batcher_steps import device_of, poll, run_to_end, submitted, turns
from devices import a_device, loaded
from prometheus_client import CollectorRegistry

from server.backends.base import Pixels
from server.errors import Draining, NotReady
from server.metrics import Metrics
from server.scheduling.batcher import Batcher
from server.scheduling.queue.tile import PaddedShape
from server.scheduling.queue.tile_queue import TileQueue

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]
Make = Callable[..., Batcher]
ANY_NUMBER = 1_000_000_000
MAX_BATCH = 3


def test_whatever_waits_becomes_one_batch_without_a_timer(
    make_batcher: Make, play: Play, make_pixels: MakePixels
) -> None:
    async def scenario() -> None:
        batcher = make_batcher()
        tasks = await submitted(batcher, make_pixels(value=1), make_pixels(value=2))
        batch = poll(batcher)
        assert batch is not None
        assert len(batch.tiles) == 2
        run_to_end(batcher, batch)
        first, second = await asyncio.gather(*tasks)
        assert (first.output.max(), second.output.max()) == (1, 2)
        assert poll(batcher) is None

    play(scenario())


def test_the_wait_in_the_queue_is_measured_on_the_clock(
    make_batcher: Make, play: Play, make_pixels: MakePixels, clock: Any
) -> None:
    async def scenario() -> None:
        batcher = make_batcher()
        (task,) = await submitted(batcher, make_pixels())
        clock.advance(1.5)
        batch = poll(batcher)
        assert batch is not None
        run_to_end(batcher, batch, seconds=0.25)
        completion = await task
        assert (completion.queue_s, completion.inference_s) == (1.5, 0.25)

    play(scenario())


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((3, 8, 8)), np.zeros((1, 3, 8, 8), np.float32), np.zeros((4, 8, 8), np.float32)],
    ids=["float64", "already a batch", "four channels"],
)
def test_an_array_that_would_fail_its_neighbours_is_not_queued(make_batcher: Make, play: Play, wrong: Any) -> None:
    async def scenario() -> None:
        batcher = make_batcher()
        with pytest.raises(ValueError, match="a tile is float32"):
            await batcher.submit(wrong)
        assert batcher.queue.tiles == 0

    play(scenario())


def test_a_failed_run_teaches_the_cost_model_nothing(make_batcher: Make, play: Play, make_pixels: MakePixels) -> None:
    async def scenario() -> None:
        batcher = make_batcher()
        device = device_of(batcher)
        loaded(device).cost_model.observe(PaddedShape(8, 8), 1, 10.0)
        (task,) = await submitted(batcher, make_pixels())
        batch = poll(batcher)
        assert batch is not None
        batcher.finished(device, batch, None)
        assert device.is_idle
        assert device.predict(PaddedShape(8, 8), 1) == pytest.approx(10.0)
        task.cancel()

    play(scenario())


def test_the_depth_of_the_queue_is_in_the_metrics(
    make_batcher: Make, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make_batcher()
        tasks = await submitted(batcher, make_pixels(8, 16), make_pixels())
        assert registry.get_sample_value("promptir_queue_tiles") == 2
        assert registry.get_sample_value("promptir_queue_pixels") == 192
        for task in tasks:
            task.cancel()

    play(scenario())


def test_next_batch_is_none_once_the_queue_is_closed_and_empty(
    make_batcher: Make, play: Play, make_pixels: MakePixels
) -> None:
    async def scenario() -> None:
        batcher = make_batcher()
        (task,) = await submitted(batcher, make_pixels())
        batcher.queue.close(lambda: Draining("stopping"))
        batch = batcher.next_batch(device_of(batcher))
        assert batch is not None
        run_to_end(batcher, batch)
        await task
        assert batcher.next_batch(device_of(batcher)) is None
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
    make_batcher: Make, play: Play, make_pixels: MakePixels
) -> None:
    async def scenario() -> None:
        batcher = make_batcher()
        device = device_of(batcher)
        running, waiting = await submitted(batcher, make_pixels(8, 8), make_pixels(8, 16))
        batch = batcher.poll(device)
        assert batch is not None
        assert batcher.leave(device) == batch.tiles
        assert batcher.leave(device) == []
        assert batcher.next_batch(device) is None
        with pytest.raises(NotReady):
            await batcher.submit(make_pixels())
        batcher.join(a_device("0", 1, cost_model=loaded(device).cost_model))
        again = poll(batcher)
        assert again is not None
        run_to_end(batcher, again)
        assert (await waiting).batch_size == 1
        running.cancel()

    play(scenario())


def test_a_waiting_thread_is_woken_by_a_tile_by_the_close_and_by_its_leaving(
    make_batcher: Make, play: Play, make_pixels: MakePixels
) -> None:
    async def scenario() -> None:
        batcher = make_batcher()
        device = device_of(batcher)
        waits = asyncio.create_task(asyncio.to_thread(batcher.next_batch, device))
        (task,) = await submitted(batcher, make_pixels())
        batch = await waits
        run_to_end(batcher, batch)
        await task
        waits = asyncio.create_task(asyncio.to_thread(batcher.next_batch, device))
        await turns()
        batcher.leave(device)
        assert await waits is None
        batcher.join(device)
        waits = asyncio.create_task(asyncio.to_thread(batcher.next_batch, device))
        await turns()
        batcher.queue.close(lambda: Draining("stopping"))
        assert await waits is None

    play(scenario())
