"""Fixtures of the batching tests: a clock that is set by hand, tiles, backends by script, pools, a scenario runner."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import numpy as np
import pytest
from devices import MODEL, a_device
from prometheus_client import CollectorRegistry

from server.backends.base import BackendInfo, ModelInput, ModelSpec, Pixels, Result
from server.metrics import Metrics
from server.scheduling.batcher import Batcher
from server.scheduling.execution.pool import PATIENCE_S, WorkerPool
from server.scheduling.execution.recovery import ParityCheck
from server.scheduling.execution.supervisor import Sleep
from server.scheduling.execution.worker import NewBackend, Worker
from server.scheduling.queue.tile_queue import TileQueue
from server.settings import MAX_RUN_PIXELS

Answer = TypeVar("Answer")
# A scenario that hangs fails instead of holding up the suite; none comes near it.
HANG_S = 20.0
# How long a test waits for another thread.
THREAD_S = 10.0
# The sides of the warm-up's padded shapes begin here; the tests' tiles are smaller.
WARM_UP_SIDE = 32


class ManualClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


@pytest.fixture(scope="session")
def make_pixels() -> Callable[..., Pixels]:
    """Make a tile (3, height, width) of one value."""

    def make(height: int = 8, width: int = 8, value: float = 0.0) -> Pixels:
        return np.full((3, height, width), value, np.float32)

    return make


@pytest.fixture(scope="session")
def play() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a scenario on a new event loop; an error that reached the loop itself fails the test."""

    def run(scenario: Coroutine[Any, Any, Answer]) -> Answer:
        async def guarded() -> Answer:
            stray: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: stray.append(context))
            async with asyncio.timeout(HANG_S):
                result = await scenario
            assert stray == []
            return result

        return asyncio.run(guarded())

    return run


@pytest.fixture(scope="session")
def clock_type() -> type[ManualClock]:
    """The clock itself, for tests that need a new one for each example."""
    return ManualClock


class ScriptedBackend:
    """Runs each batch after the warm-up through `script`.

    `hold_runs` keeps runs from ending until `released` is set; `inside` is set once a run has begun. With `start_error`
    it cannot start.
    """

    def __init__(self, script: Callable[[Pixels], Any] = np.copy, max_batch: int = 4) -> None:
        self.script = script
        self.max_batch = max_batch
        self.start_error: BaseException | None = None
        self.warm_ups: list[tuple[int, ...]] = []
        self.shapes: list[tuple[int, ...]] = []
        self.threads: set[int] = set()
        self.inside = threading.Event()
        self.released = threading.Event()
        self.released.set()
        self.stops = 0

    def start(self) -> BackendInfo:
        self.threads.add(threading.get_ident())
        if self.start_error is not None:
            raise self.start_error
        return BackendInfo(ModelSpec("none", "fp32", 8), "scripted", "test", self.max_batch)

    def run(self, batch: ModelInput) -> Result:
        self.threads.add(threading.get_ident())
        if batch.shape[-1] >= WARM_UP_SIDE:
            self.warm_ups.append(batch.shape)
            return Result(batch.pixels.copy())
        self.shapes.append(batch.shape)
        self.inside.set()
        assert self.released.wait(THREAD_S)
        return Result(self.script(batch.pixels))

    def stop(self) -> None:
        self.threads.add(threading.get_ident())
        self.stops += 1

    def hold_runs(self) -> None:
        self.inside.clear()
        self.released.clear()

    async def running(self) -> None:
        assert await asyncio.to_thread(self.inside.wait, THREAD_S)


@pytest.fixture(scope="session")
def scripted() -> type[ScriptedBackend]:
    """The backend by script: `scripted(script, max_batch)`."""
    return ScriptedBackend


async def no_pause(seconds: float) -> None:
    """Pass the pauses before a new start at once, but let nobody lose patience."""
    if seconds == PATIENCE_S:
        await asyncio.Event().wait()
    await asyncio.sleep(0)


@pytest.fixture
def build(metrics: Metrics) -> Callable[..., tuple[Batcher, WorkerPool]]:
    """Make a batcher and a pool of the named devices, one by default, whose pauses before a new start take no time."""

    def build(
        new_backend: NewBackend,
        *devices: str,
        clock: Callable[[], float] = time.monotonic,
        max_batch: int = 4,
        max_run_pixels: int = MAX_RUN_PIXELS,
        check: ParityCheck | None = None,
        run_timeout_s: float = math.inf,
        sleep: Sleep = no_pause,
    ) -> tuple[Batcher, WorkerPool]:
        batcher = Batcher(TileQueue(max_pixels=10**9), metrics, clock)

        def new_worker(name: str, replaced: Mapping[str, NewBackend]) -> Worker:
            device = a_device(name, max_batch, max_run_pixels)
            backends = {MODEL: replaced.get(MODEL, new_backend)(name)}
            return Worker(device, backends, batcher, metrics, clock, check=check, run_timeout_s=run_timeout_s)

        names = devices or ("test",)
        return batcher, WorkerPool(names, new_worker, batcher, metrics, clock, sleep=sleep, jitter=lambda: 0.0)

    return build


@pytest.fixture
def make_batcher(clock: ManualClock, metrics: Metrics) -> Callable[[], Batcher]:
    """Make a batcher with one device named 0, which takes three images in a run."""

    def make() -> Batcher:
        batcher = Batcher(TileQueue(max_pixels=10**9), metrics, clock)
        batcher.join(a_device("0", max_batch=3))
        return batcher

    return make
