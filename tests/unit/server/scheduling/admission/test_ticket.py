"""Tests of tiles that are admitted as a whole and come one by one."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from batcher_steps import turns
from devices import a_device, loaded
from prometheus_client import CollectorRegistry

from server.errors import DeadlineUnmet, QueueFull
from server.metrics import Metrics
from server.scheduling.batcher import Batcher
from server.scheduling.policy.device import Device
from server.scheduling.queue.tile import Completion, PaddedShape, Priority, settle
from server.scheduling.queue.tile_queue import TileQueue

SHAPE, SMALL = PaddedShape(64, 64), PaddedShape(8, 8)
TILE = np.zeros((3, 64, 64), np.float32)
TILE_S, SMALL_S = 1.0, 0.1


def play(
    scene: Callable[[Batcher, Device], Awaitable[None]], max_backlog_s: float = 10.0, max_pixels: int = 10**6
) -> None:
    """A batcher at time 0 whose one device takes one image a run, in a known time."""

    async def run() -> None:
        batcher = Batcher(TileQueue(max_pixels), Metrics(CollectorRegistry()), lambda: 0.0, max_backlog_s=max_backlog_s)
        device = a_device("cpu", max_batch=1)
        for _ in range(3):
            loaded(device).cost_model.observe(SHAPE, 1, TILE_S)
            loaded(device).cost_model.observe(SMALL, 1, SMALL_S)
        batcher.join(device)
        await scene(batcher, device)

    asyncio.run(run())


def test_what_is_still_to_come_is_backlog_until_it_has_come_or_is_given_up() -> None:
    async def scene(batcher: Batcher, device: Device) -> None:
        with batcher.ticket(SHAPE, 8, None, Priority.BATCH) as ticket:
            assert batcher.backlog_s() == pytest.approx(8 * TILE_S)
            tile = asyncio.create_task(ticket.submit(TILE))
            await turns()
            assert batcher.queue.tiles == 1
            assert batcher.backlog_s() == pytest.approx(8 * TILE_S)
            tile.cancel()
            await turns()
            assert batcher.backlog_s() == pytest.approx(7 * TILE_S)
        assert batcher.backlog_s() == 0

    play(scene)


def test_an_idle_server_takes_a_series_of_any_length_and_then_no_other() -> None:
    async def scene(batcher: Batcher, device: Device) -> None:
        with batcher.ticket(SHAPE, 1000, None, Priority.BATCH):
            for count in (1000, 1):
                with pytest.raises(QueueFull) as refusal, batcher.ticket(SHAPE, count, None, Priority.BATCH):
                    pass
                assert refusal.value.retry_after_s > 900
        with batcher.ticket(SHAPE, 11, None, Priority.BATCH):
            pass

    play(scene, max_pixels=10**9)


def test_what_is_still_to_come_takes_room_from_other_series_only() -> None:
    async def scene(batcher: Batcher, device: Device) -> None:
        with batcher.ticket(SHAPE, 5, None, Priority.BATCH):
            with pytest.raises(QueueFull), batcher.ticket(SHAPE, 2, None, Priority.BATCH):
                pass
            batcher.admission.admit(SHAPE)

    play(scene, max_pixels=6 * SHAPE.pixels)


def test_a_series_that_is_running_is_not_refused_its_own_tiles() -> None:
    async def scene(batcher: Batcher, device: Device) -> None:
        with batcher.ticket(SHAPE, 500, None, Priority.BATCH) as ticket:
            tiles = [asyncio.create_task(ticket.submit(TILE)) for _ in range(4)]
            await turns()
            assert batcher.queue.tiles == 4
            for tile in tiles:
                tile.cancel()
            await turns()

    play(scene, max_pixels=SHAPE.pixels)


def test_interactive_images_are_admitted_beside_a_series_and_run_before_its_tiles() -> None:
    async def scene(batcher: Batcher, device: Device) -> None:
        with batcher.ticket(SHAPE, 100, None, Priority.BATCH) as ticket:
            tiles = [asyncio.create_task(ticket.submit(TILE)) for _ in range(3)]
            await turns()
            running = batcher.poll(device)
            assert running is not None
            assert running.padded_shape == SHAPE
            small = asyncio.create_task(batcher.submit(np.zeros((3, 8, 8), np.float32)))
            await turns()
            batcher.finished(device, running, TILE_S)
            settle(running.tiles, [Completion(TILE, 0.0, TILE_S, 1)])
            following = batcher.poll(device)
            assert following is not None
            assert following.padded_shape == SMALL  # it waited for one run
            for task in (*tiles, small):
                task.cancel()
            await turns()

    play(scene)


def test_batch_images_wait_behind_what_is_still_to_come() -> None:
    async def scene(batcher: Batcher, device: Device) -> None:
        with batcher.ticket(SHAPE, 100, None, Priority.BATCH), pytest.raises(QueueFull):
            batcher.admission.admit(SMALL, priority=Priority.BATCH)

    play(scene)


def test_a_deadline_holds_for_the_whole_series() -> None:
    async def scene(batcher: Batcher, device: Device) -> None:
        with batcher.ticket(SHAPE, 5, 5.5, Priority.BATCH):
            pass
        with pytest.raises(DeadlineUnmet), batcher.ticket(SHAPE, 6, 5.5, Priority.BATCH):
            pass

    play(scene)


def test_tiles_that_come_at_once_wait_for_the_last_and_keep_their_class() -> None:
    async def scene(batcher: Batcher, device: Device) -> None:
        with batcher.ticket(SMALL, 3, None, Priority.INTERACTIVE, at_once=True) as ticket:
            first = [asyncio.create_task(ticket.submit(np.zeros((3, 8, 8), np.float32))) for _ in range(2)]
            await turns()
            assert batcher.queue.tiles == 0
            last = asyncio.create_task(ticket.submit(np.zeros((3, 8, 8), np.float32)))
            await turns()
            assert batcher.queue.tiles == 3
            assert all(len(bucket.classes[Priority.INTERACTIVE]) == 3 for bucket in batcher.queue.buckets)
            for task in (*first, last):
                task.cancel()
            await asyncio.gather(*first, last, return_exceptions=True)
        assert batcher.backlog_s() == 0

    play(scene)


def test_a_single_image_holds_its_place_from_its_ticket_on_and_is_not_checked_again() -> None:
    async def scene(batcher: Batcher, device: Device) -> None:
        with batcher.ticket(SHAPE) as first, batcher.ticket(SHAPE):
            assert batcher.backlog_s() == pytest.approx(2 * TILE_S)
            with pytest.raises(QueueFull), batcher.ticket(SHAPE):  # before any of them is queued
                pass
            tile = asyncio.create_task(first.submit(TILE))
            await turns()
            assert (batcher.queue.tiles, batcher.backlog_s()) == (1, pytest.approx(2 * TILE_S))
            tile.cancel()
            await turns()
            assert batcher.backlog_s() == pytest.approx(TILE_S)
        assert batcher.backlog_s() == 0

    play(scene, max_backlog_s=2.5 * TILE_S)


def test_single_images_that_are_admitted_take_up_room_before_they_are_queued() -> None:
    async def scene(batcher: Batcher, device: Device) -> None:
        with batcher.ticket(SHAPE), pytest.raises(QueueFull), batcher.ticket(SHAPE):
            pass
        with batcher.ticket(SHAPE):
            pass

    play(scene, max_pixels=SHAPE.pixels)


def test_interactive_tickets_delay_both_classes_and_batch_tickets_their_own_alone() -> None:
    async def scene(batcher: Batcher, device: Device) -> None:
        with batcher.ticket(SHAPE, 5, None, Priority.BATCH):
            batcher.admission.admit(SMALL)
        with batcher.ticket(SHAPE, 5):
            for priority in Priority:
                with pytest.raises(QueueFull):
                    batcher.admission.admit(SMALL, priority=priority)

    play(scene, max_backlog_s=4.0)


def test_a_ticket_moves_to_another_padded_shape_with_its_places() -> None:
    async def scene(batcher: Batcher, device: Device) -> None:
        with batcher.ticket(SMALL) as ticket:
            ticket.move(SHAPE)
            assert batcher.backlog_s() == pytest.approx(TILE_S)
        assert batcher.backlog_s() == 0

    play(scene)


def test_a_released_ticket_admits_nothing_more() -> None:
    async def scene(batcher: Batcher, device: Device) -> None:
        with batcher.ticket(SHAPE) as ticket:
            ticket.release()
            assert batcher.backlog_s() == 0
            with pytest.raises(RuntimeError, match="no place left"):
                await ticket.submit(TILE)
        assert (batcher.queue.tiles, batcher.backlog_s()) == (0, 0)

    play(scene)
