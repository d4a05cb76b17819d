"""Tests of the Worker, through a pool of one: the real thread, the real queue, a backend that does what a test says."""

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from devices import MODEL, a_device
from prometheus_client import CollectorRegistry
from waiting import all_ends

from server.backends.base import Pixels
from server.backends.simulated import SimulatedBackend
from server.errors import BackendError, Draining, NotReady, WrongOutput
from server.metrics import Metrics
from server.scheduling.batcher import Batcher
from server.scheduling.execution.worker import Worker
from server.scheduling.queue.tile import Completion
from server.scheduling.queue.tile_queue import TileQueue

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]
Run = Callable[[Pixels], Any]
PATIENCE_S = 10.0
MAX_BATCH = 4


def test_what_goes_in_comes_out_of_the_one_thread_that_owns_the_backend(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    backend = scripted(lambda batch: batch + np.float32(1))
    batcher, pool = build(lambda _: backend)

    async def scenario() -> None:
        infos = await pool.start()
        assert infos[MODEL].backend == "scripted"
        ends = await all_ends(*(batcher.submit(make_pixels(value=value)) for value in range(9)))
        assert [end.output[0, 0, 0] for end in ends] == list(range(1, 10))
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert len(backend.threads) == 1
    assert backend.threads != {threading.get_ident()}
    assert backend.stops == 1


def test_the_backend_is_warmed_up_before_anything_is_admitted(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    backend = scripted()
    batcher, pool = build(lambda _: backend)

    async def scenario() -> None:
        assert not pool.ready
        with pytest.raises(NotReady):
            await batcher.submit(make_pixels())
        await pool.start()
        assert pool.ready
        assert backend.warm_ups
        await pool.stop(PATIENCE_S)
        assert not pool.ready

    play(scenario())


def test_while_one_batch_runs_the_next_one_gathers(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    backend = scripted()
    batcher, pool = build(lambda _: backend)

    async def scenario() -> None:
        await pool.start()
        backend.hold_runs()
        first = asyncio.create_task(batcher.submit(make_pixels()))
        await backend.running()
        others = [asyncio.create_task(batcher.submit(make_pixels())) for _ in range(3)]
        await asyncio.sleep(0)
        backend.released.set()
        assert (await first).batch_size == 1
        assert [end.batch_size for end in await all_ends(*others)] == [3, 3, 3]
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert registry.get_sample_value("promptir_batch_size_sum", {"model": MODEL}) == 4
    assert registry.get_sample_value("promptir_batch_size_count", {"model": MODEL}) == 2


def test_the_backends_own_limit_lowers_the_largest_batch(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    backend = scripted(max_batch=2)
    batcher, pool = build(lambda _: backend, max_batch=8)

    async def scenario() -> None:
        await pool.start()
        backend.hold_runs()
        tiles = [asyncio.create_task(batcher.submit(make_pixels())) for _ in range(7)]
        await backend.running()
        backend.released.set()
        await asyncio.gather(*tiles)
        assert max(shape[0] for shape in backend.shapes) == 2
        await pool.stop(PATIENCE_S)

    play(scenario())


def _raise(error: BaseException) -> Run:
    def script(_: Pixels) -> Pixels:
        raise error

    return script


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (_raise(RuntimeError("secret path /x")), BackendError),
        (_raise(BackendError("the device refused")), BackendError),
        (_raise(MemoryError()), BackendError),
        (lambda batch: batch[:0], WrongOutput),
        (lambda batch: np.concatenate([batch, batch]), WrongOutput),
        (lambda batch: batch[:, :, :4], WrongOutput),
        (lambda batch: batch.astype(np.float64), WrongOutput),
        (lambda batch: batch * np.float32(np.nan), WrongOutput),
        (lambda _: None, WrongOutput),
    ],
    ids=["raises", "refuses", "no memory", "none", "too many", "cropped", "float64", "nan", "no array"],
)
def test_a_bad_run_fails_its_tiles_and_the_next_run_goes_well(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels, script: Run, expected: type[Exception]
) -> None:
    backend = scripted(script)
    batcher, pool = build(lambda _: backend)

    async def scenario() -> None:
        await pool.start()
        for end in await all_ends(*(batcher.submit(make_pixels(value=1)) for _ in range(3))):
            assert type(end) is expected
            assert "secret" not in str(end)
        backend.script = np.copy
        assert isinstance(await batcher.submit(make_pixels()), Completion)
        assert pool.ready
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert backend.stops == 1


def test_outputs_that_are_not_finite_are_counted_one_by_one(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    def poison_first(batch: Pixels) -> Pixels:
        output = batch.copy()
        output[0, 0, 0, 0] = np.nan
        return output

    backend = scripted(poison_first)
    batcher, pool = build(lambda _: backend)

    async def scenario() -> None:
        await pool.start()
        backend.hold_runs()
        first = asyncio.create_task(batcher.submit(make_pixels()))
        await backend.running()
        pair = [asyncio.create_task(batcher.submit(make_pixels())) for _ in range(2)]
        await asyncio.sleep(0)
        backend.released.set()
        ends = await all_ends(first, *pair)
        assert [type(end) for end in ends] == [WrongOutput, WrongOutput, Completion]
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert registry.get_sample_value("promptir_non_finite_outputs_total") == 2


def test_a_caller_that_leaves_during_a_run_changes_nothing_for_its_bucket_mates(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels, registry: CollectorRegistry
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def run_four(batch: Pixels) -> Pixels:
        if len(batch) == 4:
            begun.set()
            assert go_on.wait(PATIENCE_S)
        return batch.copy()

    backend = scripted(run_four)
    batcher, pool = build(lambda _: backend)

    async def scenario() -> None:
        await pool.start()
        backend.hold_runs()
        blocker = asyncio.create_task(batcher.submit(make_pixels()))
        await backend.running()
        tiles = [asyncio.create_task(batcher.submit(make_pixels(value=value))) for value in range(4)]
        await asyncio.sleep(0)
        backend.released.set()
        await blocker
        assert await asyncio.to_thread(begun.wait, PATIENCE_S)
        tiles[1].cancel()
        await asyncio.sleep(0)
        go_on.set()
        ends = await all_ends(*tiles)
        assert [type(end) for end in ends] == [Completion, asyncio.CancelledError, Completion, Completion]
        assert [end.output[0, 0, 0] for end in (ends[0], ends[2], ends[3])] == [0, 2, 3]
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "abandoned"}) == 1


def test_a_run_hangs_when_it_outlasts_the_bound_and_what_was_predicted_by_far(
    scripted: Any, play: Play, make_pixels: MakePixels, clock: Any, metrics: Metrics
) -> None:
    backend = scripted(lambda batch: (clock.advance(15.0), batch.copy())[1])
    batcher = Batcher(TileQueue(max_pixels=10**9), metrics, clock)
    worker = Worker(a_device("test", 4), {MODEL: backend}, batcher, metrics, clock, run_timeout_s=30.0)

    async def scenario() -> None:
        await worker.start()
        clock.advance(1000.0)  # it idles, which is no run
        assert not worker.overdue
        for _ in range(40):  # so many that the cost model knows what a run takes
            await batcher.submit(make_pixels())
        backend.hold_runs()
        running = asyncio.create_task(batcher.submit(make_pixels()))
        await backend.running()
        clock.advance(60.0)
        assert not worker.overdue
        clock.advance(200.0)
        assert worker.overdue
        backend.released.set()
        await running
        batcher.queue.close(lambda: Draining("stopping"))
        assert worker.ended is not None
        assert await worker.ended is False
        assert not worker.overdue

    play(scenario())


def test_a_drain_finishes_what_was_admitted_and_refuses_what_is_new(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels
) -> None:
    backend = scripted()
    batcher, pool = build(lambda _: backend)

    async def scenario() -> None:
        await pool.start()
        backend.hold_runs()
        admitted = [asyncio.create_task(batcher.submit(make_pixels(8, side))) for side in (8, 16, 24)]
        await backend.running()
        pool.drain()
        assert not pool.ready
        with pytest.raises(Draining):
            await batcher.submit(make_pixels())
        backend.released.set()
        await pool.stop(PATIENCE_S)
        assert [type(end) for end in await all_ends(*admitted)] == [Completion] * 3

    play(scenario())
    assert backend.stops == 1


def test_a_crowd_that_comes_and_goes_leaves_nothing_behind(build: Any, play: Play, make_pixels: MakePixels) -> None:
    batcher, pool = build(
        lambda _: SimulatedBackend(base_ms=0.2, ms_per_megapixel=0, max_batch=MAX_BATCH), "one", "two"
    )
    choose = random.Random(5)

    async def caller(number: int) -> Any:
        return await batcher.submit(make_pixels(8, choose.choice((8, 16, 24)), value=number))

    async def scenario() -> None:
        await pool.start()
        tasks = []
        for number in range(300):
            tasks.append(asyncio.create_task(caller(number)))
            if choose.random() < 0.3:
                choose.choice(tasks).cancel()
            if choose.random() < 0.5:
                await asyncio.sleep(0)
            while batcher.queue.tiles > 20:  # of those still open: what has ended would end the wait at once
                await asyncio.wait([task for task in tasks if not task.done()], return_when=asyncio.FIRST_COMPLETED)
        ends = await all_ends(*tasks)
        await pool.stop(PATIENCE_S)
        for number, end in enumerate(ends):
            assert isinstance(end, asyncio.CancelledError) or (end.output == number).all()

    play(scenario())
    assert (batcher.queue.tiles, batcher.queue.pixels, batcher.queue.running) == (0, 0, [])
