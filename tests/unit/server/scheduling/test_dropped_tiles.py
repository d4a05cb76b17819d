"""Tests of the Batcher: tiles that are cancelled or expire, at every stage of their way."""

from collections.abc import Callable
from typing import Any

import pytest
from batcher_steps import poll, run_to_end, submitted, turns
from prometheus_client import CollectorRegistry

from server.backends.base import Pixels
from server.errors import DeadlineExceeded
from server.scheduling.batcher import Batcher

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]
Make = Callable[..., Batcher]


def test_a_cancelled_tile_leaves_the_queue_at_once(
    make_batcher: Make, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make_batcher()
        (task,) = await submitted(batcher, make_pixels())
        task.cancel()
        await turns()
        assert task.cancelled()
        assert batcher.queue.tiles == 0
        assert poll(batcher) is None

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "cancelled"}) == 1


def test_a_tile_cancelled_during_its_run_does_not_disturb_its_neighbour(
    make_batcher: Make, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make_batcher()
        leaver, stayer = await submitted(batcher, make_pixels(value=1), make_pixels(value=2))
        batch = poll(batcher)
        assert batch is not None
        leaver.cancel()
        run_to_end(batcher, batch)
        assert (await stayer).output.max() == 2
        assert leaver.cancelled()

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "abandoned"}) == 1
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "cancelled"}) == 0


def test_a_tile_popped_between_its_cancellation_and_its_callers_next_turn_is_cancelled_once(
    make_batcher: Make, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make_batcher()
        (task,) = await submitted(batcher, make_pixels())
        task.cancel()
        assert poll(batcher) is None
        await turns()
        assert task.cancelled()

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "cancelled"}) == 1
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "abandoned"}) == 0


def test_a_tile_whose_deadline_passes_while_it_waits_never_runs(
    make_batcher: Make, play: Play, make_pixels: MakePixels, clock: Any, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make_batcher()
        (task,) = await submitted(batcher, make_pixels(), deadline=clock.now + 1)
        clock.advance(1)
        assert poll(batcher) is None
        with pytest.raises(DeadlineExceeded):
            await task

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "expired"}) == 1


def test_a_deadline_already_passed_is_refused_before_it_waits(
    make_batcher: Make, play: Play, make_pixels: MakePixels, clock: Any
) -> None:
    async def scenario() -> None:
        batcher = make_batcher()
        with pytest.raises(DeadlineExceeded):
            await batcher.submit(make_pixels(), deadline=clock.now)
        assert batcher.queue.tiles == 0

    play(scenario())


def test_a_deadline_ends_a_waiting_tile_while_the_device_is_busy(
    make_batcher: Make, play: Play, make_pixels: MakePixels, clock: Any, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make_batcher()
        (running,) = await submitted(batcher, make_pixels())
        batch = poll(batcher)
        assert batch is not None
        # The loop's timer follows the machine's clock: it must not end before this one is advanced.
        (waiting,) = await submitted(batcher, make_pixels(), deadline=clock.now + 0.5)
        clock.advance(1)
        with pytest.raises(DeadlineExceeded):
            await waiting
        assert batcher.queue.tiles == 0
        run_to_end(batcher, batch)
        await running

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "expired"}) == 1
