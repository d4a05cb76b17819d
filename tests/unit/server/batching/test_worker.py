"""Tests of the Worker: the real thread, the real queue, and a backend that does what the test says."""

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from server.backends.base import BackendInfo, Pixels
from server.backends.simulated import SimulatedBackend
from server.batching.batcher import Batcher
from server.batching.job import Completion
from server.batching.job_queue import JobQueue
from server.batching.worker import WARM_UP_RUNS, Worker
from server.errors import BackendError, BackendLost, BackendUnavailable, Draining, NotReady, WrongOutput
from server.metrics import Metrics

Tile = Callable[..., Pixels]
Play = Callable[..., Any]
Run = Callable[[Pixels], Any]
PATIENCE_S = 10.0
MAX_BATCH = 4


class ScriptedBackend:
    """Runs each batch after the warm-up through `script`; `hold` keeps runs from ending, `inside` says one is on."""

    def __init__(self, script: Run = np.copy, max_batch: int = MAX_BATCH) -> None:
        self.script = script
        self.max_batch = max_batch
        self.shapes: list[tuple[int, ...]] = []
        self.threads: set[int] = set()
        self.inside = threading.Event()
        self.released = threading.Event()
        self.released.set()
        self.stopped = False

    def start(self) -> BackendInfo:
        self.threads.add(threading.get_ident())
        return BackendInfo("scripted", "test", "none", "fp32", 8, self.max_batch)

    def run(self, batch: Pixels) -> Pixels:
        self.threads.add(threading.get_ident())
        self.shapes.append(batch.shape)
        if len(self.shapes) <= WARM_UP_RUNS:
            return batch.copy()
        self.inside.set()
        assert self.released.wait(PATIENCE_S)
        output: Pixels = self.script(batch)
        return output

    def stop(self) -> None:
        self.threads.add(threading.get_ident())
        self.stopped = True

    def hold(self) -> None:
        self.inside.clear()
        self.released.clear()

    async def running(self) -> None:
        assert await asyncio.to_thread(self.inside.wait, PATIENCE_S)


@pytest.fixture
def build(metrics: Metrics) -> Callable[[Any], tuple[Batcher, Worker]]:
    def build(backend: Any, max_batch: int = MAX_BATCH) -> tuple[Batcher, Worker]:
        batcher = Batcher(JobQueue(max_jobs=100, max_pixels=10**9), max_batch, metrics)
        return batcher, Worker(backend, batcher, metrics)

    return build


async def _all(*callers: Any) -> list[Any]:
    return await asyncio.gather(*callers, return_exceptions=True)


def test_what_goes_in_comes_out_of_the_one_thread_that_owns_the_backend(build: Any, play: Play, tile: Tile) -> None:
    backend = ScriptedBackend(lambda batch: batch + np.float32(1))
    batcher, worker = build(backend)

    async def scenario() -> None:
        info = await worker.start()
        assert info.backend == "scripted"
        ends = await _all(*(batcher.submit(tile(value=value)) for value in range(9)))
        assert [end.output[0, 0, 0] for end in ends] == list(range(1, 10))
        await worker.stop(PATIENCE_S)

    play(scenario())
    assert len(backend.threads) == 1
    assert backend.threads != {threading.get_ident()}
    assert backend.stopped


def test_the_backend_is_warmed_up_before_anything_is_admitted(build: Any, play: Play, tile: Tile) -> None:
    backend = ScriptedBackend()
    batcher, worker = build(backend)

    async def scenario() -> None:
        assert not worker.ready
        with pytest.raises(NotReady):
            await batcher.submit(tile())
        await worker.start()
        assert worker.ready
        assert backend.shapes == [(1, 3, 64, 64)] * WARM_UP_RUNS
        assert batcher.cost_model.predict(4096) > 0
        await worker.stop(PATIENCE_S)
        assert not worker.ready

    play(scenario())


def test_while_one_batch_runs_the_next_one_gathers(
    build: Any, play: Play, tile: Tile, registry: CollectorRegistry
) -> None:
    backend = ScriptedBackend()
    batcher, worker = build(backend)

    async def scenario() -> None:
        await worker.start()
        backend.hold()
        first = asyncio.create_task(batcher.submit(tile()))
        await backend.running()
        others = [asyncio.create_task(batcher.submit(tile())) for _ in range(3)]
        await asyncio.sleep(0)
        backend.released.set()
        assert (await first).batch_size == 1
        assert [end.batch_size for end in await _all(*others)] == [3, 3, 3]
        await worker.stop(PATIENCE_S)

    play(scenario())
    assert registry.get_sample_value("promptir_batch_size_sum") == 4
    assert registry.get_sample_value("promptir_batch_size_count") == 2


def test_the_backends_own_limit_lowers_the_largest_batch(build: Any, play: Play) -> None:
    batcher, worker = build(ScriptedBackend(max_batch=2), max_batch=8)

    async def scenario() -> None:
        await worker.start()
        assert batcher.max_batch == 2
        await worker.stop(PATIENCE_S)

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
def test_a_bad_run_fails_its_jobs_and_the_next_run_goes_well(
    build: Any, play: Play, tile: Tile, script: Run, expected: type[Exception]
) -> None:
    backend = ScriptedBackend(script)
    batcher, worker = build(backend)

    async def scenario() -> None:
        await worker.start()
        for end in await _all(*(batcher.submit(tile(value=1)) for _ in range(3))):
            assert type(end) is expected
            assert "secret" not in str(end)
        backend.script = np.copy
        assert isinstance(await batcher.submit(tile()), Completion)
        assert worker.ready
        await worker.stop(PATIENCE_S)

    play(scenario())


def test_outputs_that_are_not_finite_are_counted_one_by_one(
    build: Any, play: Play, tile: Tile, registry: CollectorRegistry
) -> None:
    def poison_first(batch: Pixels) -> Pixels:
        output = batch.copy()
        output[0, 0, 0, 0] = np.nan
        return output

    backend = ScriptedBackend(poison_first)
    batcher, worker = build(backend)

    async def scenario() -> None:
        await worker.start()
        backend.hold()
        first = asyncio.create_task(batcher.submit(tile()))
        await backend.running()
        pair = [asyncio.create_task(batcher.submit(tile())) for _ in range(2)]
        await asyncio.sleep(0)
        backend.released.set()
        ends = await _all(first, *pair)
        assert [type(end) for end in ends] == [WrongOutput, WrongOutput, Completion]
        await worker.stop(PATIENCE_S)

    play(scenario())
    assert registry.get_sample_value("promptir_non_finite_outputs_total") == 2


def test_when_the_thread_dies_every_job_ends_and_nothing_new_is_taken(build: Any, play: Play, tile: Tile) -> None:
    backend = ScriptedBackend(_raise(SystemExit(1)))
    batcher, worker = build(backend)

    async def scenario() -> None:
        await worker.start()
        backend.hold()
        running = asyncio.create_task(batcher.submit(tile()))
        await backend.running()
        waiting = [asyncio.create_task(batcher.submit(tile(8, side))) for side in (8, 16, 24)]
        await asyncio.sleep(0)
        backend.released.set()
        ends = await _all(running, *waiting)
        assert [type(end) for end in ends] == [BackendLost] * 4
        assert not worker.ready
        with pytest.raises(BackendLost):
            await batcher.submit(tile())
        await worker.stop(PATIENCE_S)

    play(scenario())
    assert backend.stopped


def test_a_fault_between_the_queue_and_the_run_still_ends_every_job(
    build: Any, play: Play, tile: Tile, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher, worker = build(ScriptedBackend())
    take = batcher.queue.take

    def take_and_fail(*arguments: Any, **options: Any) -> Any:
        take(*arguments, **options)
        raise RuntimeError("a bug")

    async def scenario() -> None:
        await worker.start()
        monkeypatch.setattr(batcher.queue, "take", take_and_fail)
        ends = await _all(*(batcher.submit(tile(8, side)) for side in (8, 16)))
        assert [type(end) for end in ends] == [BackendLost] * 2
        await worker.stop(PATIENCE_S)

    play(scenario())


def test_a_drain_finishes_what_was_admitted_and_refuses_what_is_new(build: Any, play: Play, tile: Tile) -> None:
    backend = ScriptedBackend()
    batcher, worker = build(backend)

    async def scenario() -> None:
        await worker.start()
        backend.hold()
        admitted = [asyncio.create_task(batcher.submit(tile(8, side))) for side in (8, 16, 24)]
        await backend.running()
        worker.drain()
        assert not worker.ready
        with pytest.raises(Draining):
            await batcher.submit(tile())
        backend.released.set()
        await worker.stop(PATIENCE_S)
        assert [type(end) for end in await _all(*admitted)] == [Completion] * 3

    play(scenario())


def test_a_stop_that_runs_out_of_time_ends_every_job(build: Any, play: Play, tile: Tile) -> None:
    backend = ScriptedBackend()
    batcher, worker = build(backend)

    async def scenario() -> None:
        await worker.start()
        backend.hold()
        running = asyncio.create_task(batcher.submit(tile()))
        await backend.running()
        waiting = asyncio.create_task(batcher.submit(tile()))
        await asyncio.sleep(0)
        await worker.stop(timeout_s=0)
        assert [type(end) for end in await _all(running, waiting)] == [BackendLost, Draining]
        backend.released.set()  # the stuck run comes back after all: too late to matter
        await worker.stop(PATIENCE_S)

    play(scenario())
    assert backend.stopped


def test_stop_before_start_and_stop_twice_are_harmless(build: Any, play: Play) -> None:
    _, never_started = build(ScriptedBackend())
    _, worker = build(ScriptedBackend())

    async def scenario() -> None:
        await never_started.stop(PATIENCE_S)
        await worker.start()
        await worker.stop(PATIENCE_S)
        await worker.stop(PATIENCE_S)

    play(scenario())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BackendUnavailable("install the extra `cpu`"), "install the extra `cpu`"),
        (RuntimeError("no such device"), "failed to start: RuntimeError: no such device"),
        (SystemExit(3), "failed to start: SystemExit: 3"),
    ],
)
def test_a_backend_that_cannot_start_says_why(
    build: Any, play: Play, tile: Tile, error: BaseException, words: str
) -> None:
    class Broken(ScriptedBackend):
        def start(self) -> BackendInfo:
            raise error

    batcher, worker = build(Broken())

    async def scenario() -> None:
        with pytest.raises(BackendUnavailable, match=words):
            await worker.start()
        assert not worker.ready
        with pytest.raises(BackendLost):
            await batcher.submit(tile())
        await worker.stop(PATIENCE_S)

    play(scenario())


def test_a_warm_up_that_gives_nonsense_is_not_served(build: Any, play: Play) -> None:
    class Nonsense(ScriptedBackend):
        def run(self, batch: Pixels) -> Pixels:
            return batch * np.float32(np.nan)

    backend = Nonsense()
    _, worker = build(backend)

    async def scenario() -> None:
        with pytest.raises(BackendUnavailable, match="warm-up"):
            await worker.start()
        await worker.stop(PATIENCE_S)

    play(scenario())
    assert backend.stopped


def test_a_start_that_is_cancelled_leaves_no_thread_behind(build: Any, play: Play) -> None:
    class Slow(ScriptedBackend):
        def start(self) -> BackendInfo:
            self.inside.set()
            assert self.released.wait(PATIENCE_S)
            return super().start()

    backend = Slow()
    _, worker = build(backend)

    async def scenario() -> None:
        backend.hold()
        start = asyncio.create_task(worker.start())
        await backend.running()
        start.cancel()
        await asyncio.gather(start, return_exceptions=True)
        worker.drain()
        backend.released.set()
        await worker.stop(PATIENCE_S)
        assert not worker.ready

    play(scenario())
    assert backend.stopped


def test_a_crowd_that_comes_and_goes_leaves_nothing_behind(build: Any, play: Play, tile: Tile) -> None:
    batcher, worker = build(SimulatedBackend(base_ms=0.2, ms_per_megapixel=0, max_batch=MAX_BATCH))
    choose = random.Random(5)

    async def caller(number: int) -> Any:
        return await batcher.submit(tile(8, choose.choice((8, 16, 24)), value=number))

    async def scenario() -> None:
        await worker.start()
        tasks = []
        for number in range(300):
            tasks.append(asyncio.create_task(caller(number)))
            if choose.random() < 0.3:
                choose.choice(tasks).cancel()
            if choose.random() < 0.5:
                await asyncio.sleep(0)
            while batcher.queue.jobs > 20:  # of those still open: what has ended would end the wait at once
                await asyncio.wait([task for task in tasks if not task.done()], return_when=asyncio.FIRST_COMPLETED)
        ends = await _all(*tasks)
        await worker.stop(PATIENCE_S)
        for number, end in enumerate(ends):
            assert isinstance(end, asyncio.CancelledError) or (end.output == number).all()

    play(scenario())
    assert (batcher.queue.jobs, batcher.queue.pixels) == (0, 0)
