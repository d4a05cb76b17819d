"""Tests of a worker with two models: each has its own backend, costs and limits, and one of them runs at a time."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from server.backends.base import Backend, BackendInfo, ModelInput, ModelSpec, Pixels, Result
from server.errors import BackendError, BackendLost, DeviceOutOfMemory
from server.metrics import Metrics
from server.scheduling.batcher import Batcher
from server.scheduling.execution.pool import WorkerPool
from server.scheduling.execution.worker import NewBackend, Worker
from server.scheduling.policy.device import Device, LoadedModel
from server.scheduling.queue.tile import PaddedShape
from server.scheduling.queue.tile_queue import TileQueue

QUICK, SLOW = "quick", "slow"
MAX_BATCH = {QUICK: 8, SLOW: 4}
TIMEOUT_S = 10.0
Build = Callable[..., tuple[Batcher, WorkerPool, Device]]


@pytest.fixture
def build_two(metrics: Metrics, clock: Any) -> Build:
    """Make a batcher and a pool of one device with two models."""

    def build(quick: Backend, slow: Backend, again: Callable[[], Mapping[str, Backend]] | None = None) -> Any:
        batcher = Batcher(TileQueue(max_pixels=10**9), metrics, clock)
        made: list[Device] = []

        def new_worker(name: str, replaced: Mapping[str, NewBackend]) -> Worker:
            first = not made
            made.append(Device(name, {model: LoadedModel(most) for model, most in MAX_BATCH.items()}))
            backends = {QUICK: quick, SLOW: slow} if first or again is None else dict(again())
            backends |= {model: make(name) for model, make in replaced.items()}
            return Worker(made[-1], backends, batcher, metrics, clock)

        async def no_pause(seconds: float) -> None:
            await asyncio.sleep(0)

        pool = WorkerPool(["test"], new_worker, batcher, metrics, clock, sleep=no_pause, jitter=lambda: 0.0)
        return batcher, pool, made

    return build


def adds(value: float) -> Callable[[Pixels], Pixels]:
    return lambda batch: batch + np.float32(value)


def test_each_tile_is_run_by_the_backend_of_its_model_in_one_thread(
    build_two: Any, scripted: Any, play: Any, make_pixels: Any
) -> None:
    quick, slow = scripted(adds(1), 8), scripted(adds(2), 2)
    batcher, pool, devices = build_two(quick, slow)

    async def scene() -> None:
        infos = await pool.start()
        assert list(infos) == [QUICK, SLOW]
        asked = [(model, value) for value in range(12) for model in (QUICK, SLOW)]
        ends = await asyncio.gather(
            *(batcher.submit(make_pixels(value=10 * value), model=model) for model, value in asked)
        )
        for (model, value), end in zip(asked, ends, strict=True):
            assert end.output[0, 0, 0] == 10 * value + (1 if model == QUICK else 2)
        await pool.stop(TIMEOUT_S)

    play(scene())
    assert quick.threads == slow.threads
    assert len(quick.threads) == 1
    assert sum(shape[0] for shape in quick.shapes) == sum(shape[0] for shape in slow.shapes) == 12
    assert max(shape[0] for shape in slow.shapes) <= 2  # what this backend takes, and not what the other does
    (device,) = devices
    assert (device.models[QUICK].max_batch, device.models[SLOW].max_batch) == (8, 2)
    assert (quick.stops, slow.stops) == (1, 1)


def test_each_model_learns_its_own_costs(
    build_two: Any, scripted: Any, play: Any, make_pixels: Any, clock: Any
) -> None:
    def takes(seconds: float) -> Callable[[Pixels], Pixels]:
        def run(batch: Pixels) -> Pixels:
            clock.advance(seconds)
            return batch

        return run

    batcher, pool, devices = build_two(scripted(takes(1.0)), scripted(takes(9.0)))

    async def scene() -> None:
        await pool.start()
        for model in (QUICK, SLOW):
            await batcher.submit(make_pixels(), model=model)
        await pool.stop(TIMEOUT_S)

    play(scene())
    (device,) = devices
    assert device.predict(PaddedShape(8, 8, QUICK), 1) == pytest.approx(1.0)
    assert device.predict(PaddedShape(8, 8, SLOW), 1) == pytest.approx(9.0)


def test_out_of_memory_lowers_the_limit_of_that_model_alone(
    build_two: Any, scripted: Any, play: Any, make_pixels: Any
) -> None:
    def fits_one(batch: Pixels) -> Pixels:
        if len(batch) > 1:
            raise DeviceOutOfMemory("too large")
        return batch

    quick, slow = scripted(np.copy, 8), scripted(fits_one)
    batcher, pool, devices = build_two(quick, slow)

    async def scene() -> None:
        await pool.start()
        quick.hold_runs()
        held = asyncio.create_task(batcher.submit(make_pixels(16, 16), model=QUICK))
        await quick.running()
        waiting = [asyncio.create_task(batcher.submit(make_pixels(), model=SLOW)) for _ in range(4)]
        await asyncio.sleep(0)
        quick.released.set()
        await asyncio.gather(held, *waiting)
        await pool.stop(TIMEOUT_S)

    play(scene())
    (device,) = devices
    assert device.room(PaddedShape(8, 8, SLOW)) == 1
    assert device.room(PaddedShape(8, 8, QUICK)) == MAX_BATCH[QUICK]


def test_a_failed_run_of_one_model_fails_no_tile_of_the_other(
    build_two: Any, scripted: Any, play: Any, make_pixels: Any
) -> None:
    def fails(_: Pixels) -> Pixels:
        raise BackendError("this model cannot")

    batcher, pool, _ = build_two(scripted(adds(1)), scripted(fails))

    async def scene() -> None:
        await pool.start()
        with pytest.raises(BackendError, match="this model cannot"):
            await batcher.submit(make_pixels(), model=SLOW)
        assert (await batcher.submit(make_pixels(), model=QUICK)).output[0, 0, 0] == 1
        await pool.stop(TIMEOUT_S)

    play(scene())


def test_a_lost_device_comes_back_with_all_its_models(
    build_two: Any, scripted: Any, play: Any, make_pixels: Any
) -> None:
    def dies(_: Pixels) -> Pixels:
        raise BackendLost("CUDA error 700")

    quick, slow = scripted(adds(1)), scripted(dies)
    batcher, pool, _ = build_two(quick, slow, lambda: {QUICK: scripted(adds(3)), SLOW: scripted(adds(4))})

    async def scene() -> None:
        await pool.start()
        with pytest.raises(BackendLost):
            await batcher.submit(make_pixels(), model=SLOW)
        while not pool.ready:  # noqa: ASYNC110 - it comes from another thread, without an event
            await asyncio.sleep(0.001)
        for model, value in ((QUICK, 3), (SLOW, 4)):
            assert (await batcher.submit(make_pixels(), model=model)).output[0, 0, 0] == value
        await pool.stop(TIMEOUT_S)

    play(scene())
    assert (quick.stops, slow.stops) == (1, 1)


def test_a_device_that_cannot_start_one_of_its_models_does_not_start(build_two: Any, scripted: Any, play: Any) -> None:
    quick, slow = scripted(), scripted()
    slow.start_error = BackendError("its weights are missing")
    _, pool, _ = build_two(quick, slow)

    async def scene() -> None:
        with pytest.raises(Exception, match="its weights are missing"):
            await pool.start()
        assert not pool.ready
        await pool.stop(TIMEOUT_S)

    play(scene())
    assert (quick.stops, slow.stops) == (1, 1)


class Overlapping:
    """A pipelined backend that notes the begin and the end of its runs in a log that two of them share.

    The wait for a run ends once `queued` is set, and the run once `released` is.
    """

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log
        self.queued, self.released = threading.Event(), threading.Event()

    def start(self) -> BackendInfo:
        return BackendInfo(ModelSpec(self.name, "fp32", 8), "overlapping", "test", 4, can_begin_ahead=True)

    def run(self, batch: ModelInput) -> Result:
        return Result(batch.pixels.copy())

    def begin(self, batch: ModelInput) -> Any:
        self.log.append(f"begin {self.name}")
        return OverlappingRun(self, batch)

    def stop(self) -> None:
        pass


@dataclass
class OverlappingRun:
    backend: Overlapping
    batch: ModelInput

    def wait(self, seconds: float) -> None:
        assert self.backend.queued.wait(TIMEOUT_S)

    def result(self) -> Result:
        assert self.backend.released.wait(TIMEOUT_S)
        self.backend.log.append(f"end {self.backend.name}")
        return Result(self.batch.pixels.copy())


@pytest.mark.parametrize(
    ("following", "log"),
    [
        (QUICK, [f"begin {QUICK}", f"begin {QUICK}", f"end {QUICK}", f"end {QUICK}"]),
        (SLOW, [f"begin {QUICK}", f"end {QUICK}", f"begin {SLOW}", f"end {SLOW}"]),
    ],
)
def test_a_batch_begins_behind_one_of_its_own_model_and_never_beside_one_of_another(
    build_two: Any, play: Any, make_pixels: Any, following: str, log: list[str]
) -> None:
    seen: list[str] = []
    quick, slow = Overlapping(QUICK, seen), Overlapping(SLOW, seen)
    slow.queued.set()
    slow.released.set()
    batcher, pool, _ = build_two(quick, slow)

    async def scene() -> None:
        await pool.start()
        first = asyncio.create_task(batcher.submit(make_pixels(16, 16), model=QUICK))
        while not seen:  # noqa: ASYNC110 - it comes from another thread, without an event
            await asyncio.sleep(0.001)
        behind = [asyncio.create_task(batcher.submit(make_pixels(), model=following)) for _ in range(2)]
        await asyncio.sleep(0)
        quick.queued.set()
        while batcher.queue.tiles:  # noqa: ASYNC110 - it comes from another thread, without an event
            await asyncio.sleep(0.001)
        quick.released.set()
        await asyncio.gather(first, *behind)
        await pool.stop(TIMEOUT_S)

    play(scene())
    assert seen == log
