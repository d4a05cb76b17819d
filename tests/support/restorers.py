"""Restorers for tests: the real one, on a simulated backend whose runs a test holds back."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import TypeVar

import cv2
import numpy as np
from prometheus_client import CollectorRegistry

from server.backends.base import BackendInfo, ModelInput, Result
from server.backends.simulated import SimulatedBackend
from server.metrics import Metrics
from server.restore.pipeline import Restorer
from server.settings import Settings
from server.wiring import create_restorer

SETTINGS = Settings()
FOREVER_S = 60.0

T = TypeVar("T")


class GatedBackend(SimulatedBackend):
    """A simulated backend whose runs, after the warm-up, wait until the gate is opened."""

    def __init__(self) -> None:
        super().__init__(base_ms=0.0, ms_per_megapixel=0.0, max_batch=8)
        self.gate = threading.Event()
        self.gate.set()
        self.running = threading.Event()

    def start(self) -> BackendInfo:
        return replace(super().start(), can_begin_ahead=False)  # all runs must go through the gate below

    def run(self, batch: ModelInput) -> Result:
        self.running.set()
        self.gate.wait()
        return super().run(batch)

    async def held_at_gate(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        """Close the gate, and begin work whose first run waits at it."""
        self.gate.clear()
        self.running.clear()
        task = asyncio.create_task(work)
        await asyncio.to_thread(self.running.wait)
        return task


def png(height: int, width: int) -> bytes:
    samples = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(".png", samples)[1].tobytes()


def play(
    scene: Callable[[Restorer], Awaitable[None]],
    backend: SimulatedBackend | None = None,
    metrics: Metrics | None = None,
    settings: Settings = SETTINGS,
) -> Metrics:
    """Run a scene with a restorer that is stopped afterwards; returns its metrics."""
    metrics = metrics or Metrics(CollectorRegistry())
    restorer = create_restorer(settings, metrics, lambda *_: lambda _: backend or GatedBackend())

    async def run() -> None:
        try:
            await scene(restorer)
        finally:
            await restorer.stop(FOREVER_S)

    asyncio.run(run())
    return metrics


async def until_one_waits(metrics: Metrics) -> None:
    while metrics.registry.get_sample_value("promptir_queue_tiles") == 0:  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(0)
