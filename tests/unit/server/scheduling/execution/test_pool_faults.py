"""A WorkerPool of three devices on which everything goes wrong, again and again."""

import asyncio
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from server.backends.base import BackendInfo, ModelInput, Pixels, Result
from server.backends.simulated import SimulatedBackend
from server.errors import BackendError, BackendLost, BackendUnavailable, NotReady
from server.scheduling.queue.tile import Completion

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]
PATIENCE_S = 10.0
# The sides of the warm-up's padded shapes begin here.
WARM_UP_SIDE = 32
JOBS = 200


def lose(_: Pixels) -> Pixels:
    raise BackendLost("gone")


FAULTS: list[Callable[[Pixels], Any]] = [
    lose,
    lambda batch: batch[:-1],
    lambda batch: batch * np.float32(np.nan),
    lambda batch: 1 // 0,
    lambda batch: sys.exit(1),
]


class FickleBackend(SimulatedBackend):
    """Fails a third of its runs, in all ways there are, and some starts but the first of its device."""

    def __init__(self, choose: random.Random, *, is_first: bool) -> None:
        super().__init__(base_ms=0.2, ms_per_megapixel=0, max_batch=4)
        self.choose = choose
        self.is_first = is_first

    def start(self) -> BackendInfo:
        if not self.is_first and self.choose.random() < 0.2:
            raise BackendUnavailable("not yet")
        return replace(super().start(), can_begin_ahead=self.choose.random() < 0.5)

    def run(self, batch: ModelInput) -> Result:
        result = super().run(batch)
        if batch.shape[-1] >= WARM_UP_SIDE or self.choose.random() < 0.7:
            return result
        return replace(result, pixels=self.choose.choice(FAULTS)(result.pixels))

    def begin(self, batch: ModelInput) -> Any:
        if self.choose.random() < 0.1:
            raise BackendLost("gone at the begin")
        return super().begin(batch)


def is_right(number: int, end: Any) -> bool:
    if isinstance(end, Completion):
        return bool((end.output == number).all())
    return isinstance(end, BackendError | asyncio.CancelledError)


@pytest.mark.parametrize("seed", range(5))
def test_every_tile_ends_with_its_own_answer_or_an_error(
    build: Any, play: Play, make_pixels: MakePixels, seed: int
) -> None:
    choose = random.Random(seed)
    seen: set[str] = set()

    def new_backend(device: str) -> FickleBackend:
        is_first = device not in seen
        seen.add(device)
        return FickleBackend(choose, is_first=is_first)

    batcher, pool = build(new_backend, "one", "two", "three")

    async def caller(number: int) -> Any:
        while True:
            try:
                return await batcher.submit(make_pixels(8, choose.choice((8, 16, 24)), value=number))
            except NotReady:  # no device just now
                await asyncio.sleep(0)

    async def scenario() -> list[Any]:
        await pool.start()
        callers = []
        for number in range(JOBS):
            callers.append(asyncio.create_task(caller(number)))
            if choose.random() < 0.1:
                choose.choice(callers).cancel()
            if choose.random() < 0.3:
                await asyncio.sleep(0)
        ends = await asyncio.gather(*callers, return_exceptions=True)
        await pool.stop(PATIENCE_S)
        return ends

    ends = play(scenario())
    assert all(is_right(number, end) for number, end in enumerate(ends))
    assert {Completion, BackendLost, asyncio.CancelledError} <= {type(end) for end in ends}
    assert (batcher.queue.tiles, batcher.queue.pixels, batcher.queue.running) == (0, 0, [])
