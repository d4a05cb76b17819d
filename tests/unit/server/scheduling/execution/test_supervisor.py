"""Tests of the Supervisor, through a pool of one device: what is lost, what hangs, and what comes back."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from lost_devices import Backends, condition_of, dies, rebuilds
from prometheus_client import CollectorRegistry
from waiting import all_ends, until

from server.backends.base import Pixels
from server.errors import BackendLost, BackendUnavailable, NotReady
from server.scheduling.execution.pool import PATIENCE_S as POOL_PATIENCE_S
from server.scheduling.execution.supervisor import FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S, pause_s
from server.scheduling.queue.tile import Completion

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]
PATIENCE_S = 10.0
TIMEOUT_S = 30.0


def test_pauses_double_up_to_a_bound_and_differ_between_devices() -> None:
    assert [pause_s(losses, 0.0) for losses in range(1, 5)] == [FIRST_PAUSE_S * factor for factor in (1, 2, 4, 8)]
    assert pause_s(1000, 0.0) == LONGEST_PAUSE_S
    assert pause_s(3, 0.999) == pytest.approx(pause_s(3, 0.0) / 2, rel=0.01)
    assert pause_s(3, 0.25) != pause_s(3, 0.75)


@pytest.mark.parametrize("error", [BackendLost("CUDA error 700"), SystemExit(1), KeyboardInterrupt()])
def test_a_loss_ends_what_ran_and_what_waits_runs_on_a_fresh_backend(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels, registry: CollectorRegistry, error: BaseException
) -> None:
    backends = Backends(scripted, dies(error))
    batcher, pool = build(backends)

    async def scenario() -> None:
        await pool.start()
        backends.made[0].hold_runs()
        running = asyncio.create_task(batcher.submit(make_pixels()))
        await backends.made[0].running()
        waiting = [asyncio.create_task(batcher.submit(make_pixels(8, side, value=side))) for side in (8, 16, 24)]
        await asyncio.sleep(0)
        backends.made[0].released.set()
        (end,) = await all_ends(running)
        assert type(end) is BackendLost
        assert "CUDA" not in str(end)
        assert [end.output[0, 0, 0] for end in await asyncio.gather(*waiting)] == [8, 16, 24]
        assert pool.ready
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert [backend.stops for backend in backends.made] == [1, 1]
    assert rebuilds(registry) == 1
    assert batcher.queue.running == []


def test_a_device_that_only_a_new_process_can_use_ends_the_service_at_once(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    async def sleep(seconds: float) -> None:
        raise AssertionError("nothing is waited for")

    backends = Backends(scripted, dies(BackendLost.until_restart("CUDA error 700")))
    batcher, pool = build(backends, sleep=sleep)

    async def scenario() -> None:
        await pool.start()
        backends.made[0].hold_runs()
        running = asyncio.create_task(batcher.submit(make_pixels()))
        await backends.made[0].running()
        waiting = asyncio.create_task(batcher.submit(make_pixels(8, 16)))
        await asyncio.sleep(0)
        backends.made[0].released.set()
        assert [type(end) for end in await all_ends(running, waiting)] == [BackendLost, NotReady]
        assert "only a new process" in str(pool.failure)
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert len(backends.made) == 1
    assert condition_of(registry) == "lost"


def test_a_device_that_only_a_new_process_can_use_leaves_the_others_at_work(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    backends = {"one": scripted(dies(BackendLost.until_restart("CUDA error 700"))), "two": scripted()}
    batcher, pool = build(backends.__getitem__, *backends)

    async def scenario() -> None:
        await pool.start()
        await until(lambda: set(pool.conditions.values()) == {"ready"})
        while pool.conditions["one"] == "ready":
            await all_ends(*(batcher.submit(make_pixels(8, side)) for side in (8, 16)))
        assert isinstance(await batcher.submit(make_pixels()), Completion)
        assert pool.failure is None
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert [backend.stops for backend in backends.values()] == [1, 1]
    assert len(backends["one"].shapes) == 1


def test_while_no_device_is_there_it_is_not_ready_and_refuses_and_afterwards_it_is_again(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    paused, go_on = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        paused.set()
        await go_on.wait()

    backends = Backends(scripted, dies(BackendLost("gone")))
    batcher, pool = build(backends, sleep=sleep)

    async def scenario() -> None:
        await pool.start()
        assert condition_of(registry) == "ready"
        assert type((await all_ends(batcher.submit(make_pixels())))[0]) is BackendLost
        await paused.wait()
        assert not pool.ready
        assert condition_of(registry) == "lost"
        with pytest.raises(NotReady):
            await batcher.submit(make_pixels())
        go_on.set()
        await until(lambda: pool.ready)
        assert isinstance(await batcher.submit(make_pixels()), Completion)
        assert condition_of(registry) == "ready"
        await pool.stop(PATIENCE_S)
        assert condition_of(registry) == "stopped"

    play(scenario())


def test_each_loss_and_each_start_that_fails_doubles_the_pause_until_the_device_holds(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels, clock: Any, registry: CollectorRegistry
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds == POOL_PATIENCE_S:
            await asyncio.Event().wait()
        pauses.append(seconds)

    lost, refused = dies(BackendLost("gone")), BackendUnavailable("busy")
    backends = Backends(scripted, lost, refused, refused, lost, lost)
    batcher, pool = build(backends, clock=clock, sleep=sleep)

    async def lose(count: int) -> None:
        for _ in range(count):
            paused = len(pauses)
            (end,) = await all_ends(batcher.submit(make_pixels()))
            assert type(end) is BackendLost
            # The queue opens before the supervisor notes since when the device is ready.
            await until(lambda: len(pauses) > paused and condition_of(registry) == "ready")  # noqa: B023

    async def scenario() -> None:
        await pool.start()
        await lose(2)
        assert pauses == [0.5, 1.0, 2.0, 4.0]
        clock.advance(STEADY_S)
        await lose(1)
        assert pauses[4:] == [0.5]
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert len(backends.made) == 6


def test_a_drain_of_a_lost_device_ends_at_once_where_nothing_waits(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    async def sleep(seconds: float) -> None:
        await asyncio.Event().wait()

    backends = Backends(scripted, dies(BackendLost("gone")))
    batcher, pool = build(backends, sleep=sleep)

    async def scenario() -> None:
        await pool.start()
        await all_ends(batcher.submit(make_pixels()))
        await until(lambda: not pool.ready)
        await pool.stop(timeout_s=1000)

    play(scenario())
    assert len(backends.made) == 1


def test_a_drain_of_a_lost_device_still_runs_what_waits(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    paused = asyncio.Event()

    async def sleep(seconds: float) -> None:
        paused.set()
        await asyncio.Event().wait()

    backends = Backends(scripted, dies(BackendLost("gone")))
    batcher, pool = build(backends, sleep=sleep)

    async def scenario() -> None:
        await pool.start()
        backends.made[0].hold_runs()
        running = asyncio.create_task(batcher.submit(make_pixels()))
        await backends.made[0].running()
        waiting = asyncio.create_task(batcher.submit(make_pixels(value=5)))
        await asyncio.sleep(0)
        backends.made[0].released.set()
        await all_ends(running)
        await paused.wait()
        await pool.stop(PATIENCE_S)
        assert (await waiting).output[0, 0, 0] == 5

    play(scenario())
