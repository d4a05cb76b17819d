"""Tests of a backend that takes the place of another while tiles come: none is lost, and none is refused."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from devices import MODEL
from prometheus_client import CollectorRegistry
from waiting import until

from server.backends.base import Pixels
from server.errors import BackendLost, BackendUnavailable, Draining
from server.scheduling.queue.tile import Completion

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]
TIMEOUT_S = 30.0


def adds(value: float) -> Callable[[Pixels], Pixels]:
    return lambda batch: batch + np.float32(value)


def value_of(completion: Completion) -> float:
    return float(completion.output[0, 0, 0])


def served_by(registry: CollectorRegistry) -> list[float]:
    return [
        registry.get_sample_value("promptir_device_condition", {"device": "test", "promptir_device_condition": state})
        or 0.0
        for state in ("ready", "lost")
    ]


def test_what_runs_ends_on_the_old_backend_and_what_waits_runs_on_the_new_one(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    old, new = scripted(adds(1)), scripted(adds(2))

    async def scene() -> None:
        batcher, pool = build(lambda name: old, max_batch=1)
        await pool.start()
        old.released.clear()
        running = asyncio.create_task(batcher.submit(make_pixels()))
        await until(old.inside.is_set)
        waiting = asyncio.create_task(batcher.submit(make_pixels()))
        info = await pool.replace(MODEL, lambda name: new)
        assert pool.ready
        assert served_by(registry) == [1.0, 0.0]
        assert info.backend == "scripted"
        assert value_of(await waiting) == 2  # beside the run that goes on
        assert not running.done()
        old.released.set()
        assert value_of(await running) == 1
        await until(lambda: old.stops == 1)
        assert value_of(await batcher.submit(make_pixels())) == 2
        await pool.stop(TIMEOUT_S)
        assert new.stops == 1

    play(scene())


def test_no_tile_is_lost_or_refused_in_many_replacements_under_load(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    async def scene() -> None:
        batcher, pool = build(lambda name: scripted(adds(0)), "one", "two")
        await pool.start()
        stopping = False

        async def client(value: float) -> int:
            answered = 0
            while not stopping:
                assert value_of(await batcher.submit(make_pixels(value=value))) == value
                answered += 1
            return answered

        clients = [asyncio.create_task(client(float(value))) for value in range(8)]
        for _ in range(5):
            await pool.replace(MODEL, lambda name: scripted(adds(0)))
            await asyncio.sleep(0.01)  # a few runs on each
        stopping = True
        answered = await asyncio.gather(*clients)
        assert all(answered)
        await pool.stop(TIMEOUT_S)  # a thread releases its tiles after they were answered
        assert batcher.queue.tiles == 0
        assert batcher.queue.running == []

    play(scene())


def test_a_backend_that_cannot_start_changes_nothing(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    old, new = scripted(adds(1)), scripted(adds(2))
    new.start_error = BackendUnavailable("no such plan")

    async def scene() -> None:
        batcher, pool = build(lambda name: old)
        await pool.start()
        with pytest.raises(BackendUnavailable, match="no such plan"):
            await pool.replace(MODEL, lambda name: new)
        assert (new.stops, old.stops) == (1, 0)
        assert value_of(await batcher.submit(make_pixels())) == 1
        assert pool.failure is None
        await pool.stop(TIMEOUT_S)

    play(scene())


def test_an_old_backend_that_is_lost_in_its_last_run_ends_its_tile(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    def dies(_: Pixels) -> Pixels:
        raise BackendLost("CUDA error 700")

    old, new = scripted(dies), scripted(adds(2))

    async def scene() -> None:
        batcher, pool = build(lambda name: old)
        await pool.start()
        old.released.clear()
        running = asyncio.create_task(batcher.submit(make_pixels()))
        await until(old.inside.is_set)
        await pool.replace(MODEL, lambda name: new)
        old.released.set()
        with pytest.raises(BackendLost):
            await running
        assert value_of(await batcher.submit(make_pixels())) == 2
        assert served_by(registry) == [1.0, 0.0]
        assert registry.get_sample_value("promptir_device_rebuilds_total", {"device": "test"}) == 0
        await pool.stop(TIMEOUT_S)

    play(scene())


def test_a_device_that_is_lost_later_comes_back_with_what_it_ran_last(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    def dies(_: Pixels) -> Pixels:
        raise BackendLost("CUDA error 700")

    made = [scripted(dies), scripted(adds(2))]

    async def scene() -> None:
        batcher, pool = build(lambda name: scripted(adds(1)))
        await pool.start()
        await pool.replace(MODEL, lambda name: made.pop(0))
        with pytest.raises(BackendLost):
            await batcher.submit(make_pixels())
        await until(lambda: pool.ready)
        assert value_of(await batcher.submit(make_pixels())) == 2
        await pool.stop(TIMEOUT_S)

    play(scene())


def test_a_drain_in_the_middle_of_it_does_what_was_admitted(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    old, new = scripted(adds(1)), scripted(adds(2))

    async def scene() -> None:
        batcher, pool = build(lambda name: old, max_batch=1)
        await pool.start()
        old.released.clear()
        admitted = [asyncio.create_task(batcher.submit(make_pixels())) for _ in range(3)]
        await until(old.inside.is_set)
        replacing = asyncio.create_task(pool.replace(MODEL, lambda name: new))
        pool.drain()
        stopping = asyncio.create_task(pool.stop(TIMEOUT_S))
        await asyncio.gather(replacing, return_exceptions=True)
        old.released.set()
        assert {value_of(completion) for completion in await asyncio.gather(*admitted)} <= {1, 2}
        await stopping
        with pytest.raises(Draining):
            await batcher.submit(make_pixels())
        assert old.stops == 1

    play(scene())
