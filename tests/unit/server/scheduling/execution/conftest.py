"""Fixtures for tests of the workers: one batch on a device, from its callers to their answers."""

from collections.abc import Callable
from typing import Any

import pytest
from small_devices import MAX_BATCH, PATIENCE_S, SmallDevice, together

from server.backends.base import Pixels
from server.scheduling.execution.recovery import ParityCheck

Play = Callable[..., Any]


@pytest.fixture
def serve_batch(build: Any, play: Play) -> Callable[..., list[Any]]:
    """Start a pool on the device, submit the tiles as one batch, stop."""

    def serve(device: SmallDevice, tiles: list[Pixels], check: ParityCheck | None = None) -> list[Any]:
        batcher, pool = build(lambda _: device, max_batch=MAX_BATCH, check=check)

        async def scenario() -> list[Any]:
            await pool.start()
            ends = await together(device, batcher, tiles)
            assert pool.ready
            await pool.stop(PATIENCE_S)
            return ends

        return play(scenario())  # type: ignore[no-any-return]

    return serve
