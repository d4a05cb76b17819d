"""Tests of the WorkerPool: several devices, their start, their end, and what waits while none is there."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from waiting import all_ends, until

from server.backends.base import BackendInfo, Pixels
from server.errors import BackendLost, BackendUnavailable, Draining, NotReady
from server.scheduling.execution.pool import MOST_FAILED_STARTS
from server.scheduling.execution.pool import PATIENCE_S as POOL_PATIENCE_S
from server.scheduling.queue.tile import Completion

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]
PATIENCE_S = 10.0


def gone(_: Pixels) -> Pixels:
    raise BackendLost("gone")


def test_two_devices_run_at_the_same_time_what_waits_in_one_queue(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    together = threading.Barrier(2, timeout=PATIENCE_S)

    def meet(batch: Pixels) -> Pixels:
        together.wait()
        return batch.copy()

    backends = {name: scripted(meet) for name in ("sim:0", "sim:1")}
    batcher, pool = build(backends.__getitem__, *backends)

    async def scenario() -> None:
        await pool.start()
        await until(lambda: all(backend.warm_ups for backend in backends.values()) and len(pool.conditions) == 2)
        await until(lambda: set(pool.conditions.values()) == {"ready"})
        ends = await asyncio.gather(batcher.submit(make_pixels(8, 8)), batcher.submit(make_pixels(8, 16)))
        assert [end.batch_size for end in ends] == [1, 1]
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert [len(backend.shapes) for backend in backends.values()] == [1, 1]
    assert len(set.union(*(backend.threads for backend in backends.values()))) == 2


def test_it_is_ready_as_soon_as_the_first_device_is(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    warm = threading.Event()

    class Slow(scripted):  # type: ignore[misc]
        def start(self) -> BackendInfo:
            assert warm.wait(PATIENCE_S)
            return super().start()  # type: ignore[no-any-return]

    backends = {"slow": Slow(), "quick": scripted()}
    batcher, pool = build(backends.__getitem__, *backends)

    async def scenario() -> None:
        await pool.start()
        assert pool.conditions == {"slow": "starting", "quick": "ready"}
        assert isinstance(await batcher.submit(make_pixels()), Completion)
        warm.set()
        await until(lambda: pool.conditions["slow"] == "ready")
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert [backend.stops for backend in backends.values()] == [1, 1]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BackendUnavailable("install the extra `cpu`"), "two: install the extra `cpu`"),
        (RuntimeError("no such device"), "two: the backend failed to start: RuntimeError: no such device"),
        (SystemExit(3), "two: the backend failed to start: SystemExit: 3"),
    ],
)
def test_a_device_that_does_not_start_is_named_and_fails_the_pool(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels, error: BaseException, words: str
) -> None:
    backends = {"two": scripted()}
    backends["two"].start_error = error
    batcher, pool = build(backends.__getitem__, *backends)

    async def scenario() -> None:
        with pytest.raises(BackendUnavailable, match=words):
            await pool.start()
        assert not pool.ready
        assert words in str(pool.failure)
        with pytest.raises(NotReady):
            await batcher.submit(make_pixels())
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert backends["two"].stops == 1


def test_a_backend_that_cannot_even_be_made_fails_the_pool(build: Any, play: Play) -> None:
    def new_backend(device: str) -> Any:
        raise ImportError("no module named abacus")

    _, pool = build(new_backend)

    async def scenario() -> None:
        with pytest.raises(BackendUnavailable, match="test: the backend cannot be made: ImportError"):
            await pool.start()
        await pool.stop(PATIENCE_S)

    play(scenario())


def test_a_device_that_does_not_start_after_another_did_fails_the_pool_and_what_was_admitted_still_runs(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    failing = threading.Event()

    class Late(scripted):  # type: ignore[misc]
        def start(self) -> BackendInfo:
            assert failing.wait(PATIENCE_S)
            raise BackendUnavailable("no such device")

    backends = {"good": scripted(), "bad": Late()}
    batcher, pool = build(backends.__getitem__, *backends)

    async def scenario() -> None:
        await pool.start()
        backends["good"].hold_runs()
        admitted = [asyncio.create_task(batcher.submit(make_pixels(8, side))) for side in (8, 16)]
        await backends["good"].running()
        failing.set()
        await until(lambda: pool.failure is not None)
        assert "bad: no such device" in str(pool.failure)
        assert not pool.ready
        with pytest.raises(NotReady):
            await batcher.submit(make_pixels())
        backends["good"].released.set()
        assert [type(end) for end in await all_ends(*admitted)] == [Completion] * 2
        await pool.stop(PATIENCE_S)

    play(scenario())


def test_a_lost_device_leaves_the_others_at_work_and_the_service_ready(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    async def sleep(seconds: float) -> None:
        await asyncio.Event().wait()

    backends = {"one": scripted(), "two": scripted()}
    batcher, pool = build(backends.__getitem__, *backends, sleep=sleep)

    async def scenario() -> None:
        await pool.start()
        await until(lambda: set(pool.conditions.values()) == {"ready"})
        for backend in backends.values():
            backend.hold_runs()
        tiles = [asyncio.create_task(batcher.submit(make_pixels(8, side, value=side))) for side in (8, 16)]
        await backends["one"].running()
        await backends["two"].running()
        waiting = asyncio.create_task(batcher.submit(make_pixels(8, 24, value=24)))
        await asyncio.sleep(0)
        backends["one"].script = gone
        backends["one"].released.set()
        await until(lambda: pool.conditions["one"] == "lost")
        assert pool.ready
        backends["two"].released.set()
        ends = await all_ends(*tiles, waiting)
        assert sorted(type(end).__name__ for end in ends[:2]) == ["BackendLost", "Completion"]
        assert ends[2].output[0, 0, 0] == 24
        assert isinstance(await batcher.submit(make_pixels()), Completion)
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert [len(backend.shapes) for backend in backends.values()] == [1, 3]


def test_what_waits_while_no_device_is_there_is_refused_after_a_bound(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    patience = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await (patience if seconds == POOL_PATIENCE_S else asyncio.Event()).wait()

    backend = scripted(gone)
    batcher, pool = build(lambda _: backend, sleep=sleep)

    async def scenario() -> None:
        await pool.start()
        backend.hold_runs()
        running = asyncio.create_task(batcher.submit(make_pixels()))
        await backend.running()
        waiting = [asyncio.create_task(batcher.submit(make_pixels(8, side))) for side in (8, 16)]
        await asyncio.sleep(0)
        backend.released.set()
        await all_ends(running)
        await until(lambda: pool.conditions["test"] == "lost")
        assert not any(tile.done() for tile in waiting)
        patience.set()
        assert [type(end) for end in await all_ends(*waiting)] == [NotReady] * 2
        await pool.stop(PATIENCE_S)

    play(scenario())


def test_a_pool_whose_devices_do_not_come_back_gives_up(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    backend = scripted(gone)
    starts: list[str] = []

    def new_backend(device: str) -> Any:
        starts.append(device)
        if len(starts) > 1:
            backend.start_error = BackendUnavailable("the context is lost")
        return backend

    batcher, pool = build(new_backend)

    async def scenario() -> None:
        await pool.start()
        await all_ends(batcher.submit(make_pixels()))
        await until(lambda: pool.failure is not None)
        assert "test: the context is lost" in str(pool.failure)
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert len(starts) == 1 + MOST_FAILED_STARTS


def test_a_stop_that_runs_out_of_time_ends_every_tile(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    backend = scripted()
    batcher, pool = build(lambda _: backend)

    async def scenario() -> None:
        await pool.start()
        backend.hold_runs()
        running = asyncio.create_task(batcher.submit(make_pixels()))
        await backend.running()
        waiting = asyncio.create_task(batcher.submit(make_pixels()))
        await asyncio.sleep(0)
        await pool.stop(timeout_s=0)
        assert [type(end) for end in await all_ends(running, waiting)] == [BackendLost, Draining]
        backend.released.set()  # the stuck run comes back after all: too late to matter
        await until(lambda: backend.stops == 1)

    play(scenario())


def test_stop_before_start_and_stop_twice_are_harmless(build: Any, scripted: Any, play: Play) -> None:
    _, never_started = build(lambda _: scripted())
    _, pool = build(lambda _: scripted())

    async def scenario() -> None:
        await never_started.stop(PATIENCE_S)
        await pool.start()
        await pool.stop(PATIENCE_S)
        await pool.stop(PATIENCE_S)

    play(scenario())


def test_a_start_that_is_cancelled_leaves_no_thread_behind(build: Any, scripted: Any, play: Play) -> None:
    class Slow(scripted):  # type: ignore[misc]
        def start(self) -> BackendInfo:
            self.inside.set()
            assert self.released.wait(PATIENCE_S)
            return super().start()  # type: ignore[no-any-return]

    backend = Slow(np.copy)
    _, pool = build(lambda _: backend)

    async def scenario() -> None:
        backend.hold_runs()
        start = asyncio.create_task(pool.start())
        await backend.running()
        start.cancel()
        await all_ends(start)
        pool.drain()
        backend.released.set()
        await pool.stop(PATIENCE_S)
        assert not pool.ready

    play(scenario())
    assert backend.stops == 1
