"""Tests of the Wakes: when the threads of idle devices are woken for new tiles."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from devices import a_device, loaded

from server.backends.base import Pixels
from server.metrics import Metrics
from server.scheduling.batcher import Batcher
from server.scheduling.execution.pool import WorkerPool
from server.scheduling.policy.device import Device, Wait
from server.scheduling.policy.wakes import SHORT_RUN_S
from server.scheduling.queue.tile import PaddedShape, Tile
from server.scheduling.queue.tile_queue import TileQueue

SHAPE = PaddedShape(8, 8)
SHORT_S, LONG_S = SHORT_RUN_S / 10, SHORT_RUN_S * 10
MAX_BATCH = 3
NOW = 100.0

Enqueue = Callable[..., None]
Play = Callable[[Coroutine[Any, Any, Any]], Any]


class Bell:
    """Counts how often the thread of a device is woken."""

    def __init__(self) -> None:
        self.rings = 0

    def notify(self) -> None:
        self.rings += 1

    notify_all = notify


@pytest.fixture
def batcher(metrics: Metrics) -> Batcher:
    return Batcher(TileQueue(max_pixels=10**9), metrics, lambda: NOW)


@pytest.fixture
def enqueue(batcher: Batcher, make_pixels: Callable[..., Pixels]) -> Enqueue:
    """Put a tile of some side into the queue, within the present turn of the loop."""

    def put(side: int = SHAPE.height, deadline: float | None = None) -> None:
        future = asyncio.get_running_loop().create_future()
        batcher.enqueue(Tile(make_pixels(side, side), future, NOW, deadline))

    return put


def join(batcher: Batcher, run_s: float | None, name: str = "0") -> tuple[Device, Bell]:
    device, bell = a_device(name, MAX_BATCH), Bell()
    if run_s is not None:
        loaded(device).cost_model.observe(SHAPE, 1, run_s)
    batcher.join(device)
    device.wake = bell  # type: ignore[assignment]
    return device, bell


@pytest.mark.parametrize("run_s", [LONG_S, None])
def test_a_long_run_and_one_that_was_never_measured_begin_at_once(
    batcher: Batcher, enqueue: Enqueue, play: Play, run_s: float | None
) -> None:
    async def scenario() -> None:
        _, bell = join(batcher, run_s)
        enqueue()
        assert bell.rings == 1

    play(scenario())


def test_a_short_run_begins_at_the_end_of_the_turn_in_which_its_tiles_came(
    batcher: Batcher, enqueue: Enqueue, play: Play
) -> None:
    async def scenario() -> None:
        device, bell = join(batcher, SHORT_S)
        for _ in range(2):  # and so in every turn
            bell.rings = 0
            enqueue()
            enqueue()
            assert bell.rings == 0
            await asyncio.sleep(0)
            assert bell.rings > 0
            batch = batcher.poll(device)
            assert batch is not None
            assert len(batch.tiles) == 2
            batcher.finished(device, batch, SHORT_S)

    play(scenario())


def test_a_full_short_run_begins_at_once(batcher: Batcher, enqueue: Enqueue, play: Play) -> None:
    async def scenario() -> None:
        _, bell = join(batcher, SHORT_S)
        for _ in range(MAX_BATCH - 1):
            enqueue()
        assert bell.rings == 0
        enqueue()
        assert bell.rings == 1

    play(scenario())


def test_a_tile_with_a_deadline_begins_at_once(batcher: Batcher, enqueue: Enqueue, play: Play) -> None:
    async def scenario() -> None:
        _, bell = join(batcher, SHORT_S)
        enqueue(deadline=NOW + 1)
        assert bell.rings == 1

    play(scenario())


def test_tiles_that_cannot_share_a_run_begin_at_once(batcher: Batcher, enqueue: Enqueue, play: Play) -> None:
    async def scenario() -> None:
        _, bell = join(batcher, SHORT_S)
        enqueue()
        assert bell.rings == 0
        enqueue(side=2 * SHAPE.height)
        assert bell.rings == 1

    play(scenario())


def test_a_loop_that_ended_in_the_middle_of_a_turn_leaves_the_next_one_its_wake(
    batcher: Batcher, enqueue: Enqueue
) -> None:
    _, bell = join(batcher, SHORT_S)

    async def scenario() -> None:
        enqueue()
        await asyncio.sleep(0)

    first = asyncio.new_event_loop()
    first.call_soon(first.stop)  # before the end of the turn of the tile
    with pytest.raises(RuntimeError, match="stopped before"):
        first.run_until_complete(scenario())
    assert bell.rings == 0
    asyncio.run(scenario())
    assert bell.rings == 1
    for task in asyncio.all_tasks(first):
        task.cancel()
    first.run_until_complete(asyncio.sleep(0))
    first.close()


def test_a_device_that_took_its_work_meanwhile_is_left_alone(batcher: Batcher, enqueue: Enqueue, play: Play) -> None:
    async def scenario() -> None:
        device, bell = join(batcher, SHORT_S)
        enqueue()
        assert batcher.poll(device) is not None
        await asyncio.sleep(0)
        assert bell.rings == 0

    play(scenario())


def test_a_device_that_waits_for_more_tiles_of_a_shape_is_woken_by_those_alone(
    batcher: Batcher, enqueue: Enqueue, play: Play
) -> None:
    async def scenario() -> None:
        device, bell = join(batcher, LONG_S)
        device.wait = Wait(1.0, SHAPE, 2)
        enqueue()
        assert bell.rings == 0
        enqueue()
        assert bell.rings == 1
        device.wait = Wait(1.0, SHAPE, MAX_BATCH)
        enqueue(side=16)
        assert bell.rings == 2

    play(scenario())


def test_a_tile_goes_to_the_idle_device_that_ends_it_first(batcher: Batcher, enqueue: Enqueue, play: Play) -> None:
    async def scenario() -> None:
        _, slow = join(batcher, 2 * LONG_S, "slow")
        _, fast = join(batcher, LONG_S, "fast")
        enqueue()
        assert (slow.rings, fast.rings) == (0, 1)

    play(scenario())


def test_tiles_of_one_turn_share_a_short_run_of_a_real_thread(
    build: Callable[..., tuple[Batcher, WorkerPool]],
    scripted: Callable[..., Any],
    play: Play,
    make_pixels: Callable[..., Pixels],
    clock: Callable[[], float],
) -> None:
    async def scenario() -> None:
        backend = scripted()
        batcher, pool = build(lambda name: backend, clock=clock)  # by this clock its runs take no time
        await pool.start()
        try:
            for _ in range(20):
                tiles = (make_pixels(value=1), make_pixels(value=2))
                done = await asyncio.gather(*(batcher.submit(tile) for tile in tiles))
                assert [completion.output.max() for completion in done] == [1, 2]
                assert [completion.batch_size for completion in done] == [2, 2]
        finally:
            await pool.stop(1.0)

    play(scenario())
