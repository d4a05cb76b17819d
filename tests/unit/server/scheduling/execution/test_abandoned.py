"""Tests of a Worker that was given up: what its run still does when it comes back."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from devices import MODEL, a_device

from server.backends.base import ModelInput, Pending, Pixels, Result
from server.backends.simulated import SimulatedBackend
from server.errors import BackendLost, Draining
from server.metrics import Metrics
from server.scheduling.batcher import Batcher
from server.scheduling.execution.worker import Worker
from server.scheduling.queue.tile import PaddedShape
from server.scheduling.queue.tile_queue import TileQueue

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]
PATIENCE_S = 10.0
# The sides of the warm-up's padded shapes begin here.
WARM_UP_SIDE = 32


class StuckBackend(SimulatedBackend):
    """Begins batches ahead; its runs after the warm-up end once they are released."""

    def __init__(self) -> None:
        super().__init__(base_ms=0, ms_per_megapixel=0, max_batch=4)
        self.inside, self.released = threading.Event(), threading.Event()

    def begin(self, batch: ModelInput) -> Pending:
        run = super().begin(batch)
        return StuckRun(run, self) if batch.shape[-1] < WARM_UP_SIDE else run


class StuckRun:
    def __init__(self, run: Pending, backend: StuckBackend) -> None:
        self.run, self.backend = run, backend

    def wait(self, seconds: float) -> None:
        """It is not waited for before its result is."""

    def result(self) -> Result:
        self.backend.inside.set()
        assert self.backend.released.wait(PATIENCE_S)
        return self.run.result()


def test_what_waits_is_not_taken_by_a_run_that_comes_back_too_late(
    play: Play, make_pixels: MakePixels, clock: Any, metrics: Metrics
) -> None:
    batcher = Batcher(TileQueue(max_pixels=10**9), metrics, clock)
    stuck, device = StuckBackend(), a_device("test", 4)
    worker = Worker(device, {MODEL: stuck}, batcher, metrics, clock)
    fresh = Worker(a_device("test", 4), {MODEL: SimulatedBackend(0, 0, 4)}, batcher, metrics, clock)

    async def scenario() -> None:
        await worker.start()
        running = asyncio.create_task(batcher.submit(make_pixels(value=1)))
        assert await asyncio.to_thread(stuck.inside.wait, PATIENCE_S)
        waiting = asyncio.create_task(batcher.submit(make_pixels(8, 16, value=2)))
        await asyncio.sleep(0)
        worker.abandon()
        assert type((await asyncio.gather(running, return_exceptions=True))[0]) is BackendLost
        observed = device.predict(PaddedShape(8, 8), 1)
        clock.advance(1000.0)
        stuck.released.set()
        assert worker.ended is not None
        await worker.ended
        assert batcher.queue.tiles == 1  # for the next worker of the device
        assert device.predict(PaddedShape(8, 8), 1) == observed  # that it hung says nothing about the next run
        await fresh.start()
        assert (await waiting).output[0, 0, 0] == 2
        batcher.queue.close(lambda: Draining("stopping"))
        assert fresh.ended is not None
        await fresh.ended

    play(scenario())
