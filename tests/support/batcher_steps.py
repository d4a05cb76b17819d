"""Steps that tests take with a Batcher, in the place of its callers and of the worker."""

import asyncio
from typing import Any

from server.backends.base import Pixels, Result
from server.scheduling.batcher import Batcher
from server.scheduling.policy.device import Device
from server.scheduling.queue.tile import Batch, Completion, settle_soon


async def turns() -> None:
    """Let every ready task and callback run; an answer needs three turns of the loop to reach its caller."""
    for _ in range(5):
        await asyncio.sleep(0)


async def submitted(batcher: Batcher, *tiles: Pixels, deadline: float | None = None) -> list[asyncio.Task[Completion]]:
    tasks = [asyncio.create_task(batcher.submit(pixels, deadline)) for pixels in tiles]
    await turns()
    return tasks


def device_of(batcher: Batcher) -> Device:
    return batcher.devices["0"]


def poll(batcher: Batcher, **options: Any) -> Batch | None:
    return batcher.poll(device_of(batcher), **options)


def run_to_end(batcher: Batcher, batch: Batch, seconds: float = 0.0) -> None:
    """Do to a batch what the worker does, with the identity as the network."""
    settle_soon(batch.tiles, batch.outcomes(Result(batch.stack()), batch.taken_at, seconds))
    batcher.finished(device_of(batcher), batch, seconds)
    batcher.queue.release(batch.tiles)
