"""A device with little memory and half precision, for tests of the recovery."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from server.backends.base import BackendInfo, ModelInput, ModelSpec, Pixels, Result
from server.errors import DeviceOutOfMemory
from server.scheduling.batcher import Batcher

PATIENCE_S = 10.0
MAX_BATCH = 8
# The sides of the warm-up's padded shapes begin here.
WARM_UP_SIDE = 32


class SmallDevice:
    """Adds 1 to what fits `room` pixels; `spoil` stands for half precision: the plain run's answers pass through it."""

    def __init__(self, room: int = 10**9, *, repeats: bool = False) -> None:
        self.room = room
        self.repeats = repeats
        self.spoil: Callable[[Pixels], Pixels] = np.copy
        self.counts: list[int] = []
        self.fp32_values: list[float] = []
        self.fp32_error: Exception | None = None
        self.released = threading.Event()
        self.inside = threading.Event()
        self.released.set()

    def start(self) -> BackendInfo:
        return BackendInfo(ModelSpec("none", "fp16", 8), "small", "test", MAX_BATCH, can_repeat_in_fp32=self.repeats)

    def run(self, batch: ModelInput) -> Result:
        if batch.precision == "fp32":
            return Result(self.run_fp32(batch.pixels))
        if batch.shape[-1] >= WARM_UP_SIDE:
            return Result(batch.pixels.copy())
        self.counts.append(batch.shape[0])
        self.inside.set()
        assert self.released.wait(PATIENCE_S)
        if batch.pixels.size // 3 > self.room:
            raise DeviceOutOfMemory("no room")
        return Result(self.spoil(batch.pixels + np.float32(1)))

    def run_fp32(self, batch: Pixels) -> Pixels:
        if self.fp32_error is not None:
            raise self.fp32_error
        self.fp32_values.append(float(batch[0, 0, 0, 0]))
        return batch + np.float32(1)

    def stop(self) -> None:
        pass

    @property
    def runs(self) -> list[int]:
        """Images in each run, without the run that `together` begins with."""
        return self.counts[1:]


async def together(device: SmallDevice, batcher: Batcher, tiles: list[Pixels]) -> list[Any]:
    """Submit tiles so that they leave the queue as one batch: behind a run of a tiny tile that is held up."""
    device.inside.clear()
    device.released.clear()
    first = asyncio.create_task(batcher.submit(np.zeros((3, 1, 1), np.float32)))
    assert await asyncio.to_thread(device.inside.wait, PATIENCE_S)
    others = [asyncio.create_task(batcher.submit(tile)) for tile in tiles]
    await asyncio.sleep(0)
    device.released.set()
    await asyncio.gather(first, return_exceptions=True)
    return await asyncio.gather(*others, return_exceptions=True)


def values(ends: list[Any]) -> list[float]:
    return [float(end.output[0, 0, 0]) for end in ends]
