"""Tests of the life of a Restorer: starting, ready, draining, failed."""

import pytest
from restorers import FOREVER_S, play, png

from server.backends.base import BackendInfo
from server.backends.simulated import SimulatedBackend
from server.errors import (
    BackendUnavailable,
    Draining,
    NotReady,
)
from server.restore.pipeline import Restorer, Status
from server.restore.request import RestoreRequest


class BrokenBackend(SimulatedBackend):
    """A backend that cannot start."""

    def __init__(self) -> None:
        super().__init__(base_ms=0.0, ms_per_megapixel=0.0, max_batch=8)

    def start(self) -> BackendInfo:
        raise BackendUnavailable("no such device; plug one in")


def test_the_life_is_starting_then_ready_then_draining() -> None:
    async def scene(restorer: Restorer) -> None:
        assert restorer.status is Status.STARTING
        with pytest.raises(NotReady), restorer.accepted():
            pass
        await restorer.start()
        assert restorer.status is Status.READY
        restorer.drain()
        assert restorer.status is Status.DRAINING
        with pytest.raises(Draining), restorer.accepted():
            pass

    registry = play(scene).registry
    for reason in ("not-ready", "draining"):
        assert registry.get_sample_value("promptir_refusals_total", {"reason": reason}) == 1


def test_a_backend_that_cannot_start_is_a_failure_that_is_kept() -> None:
    async def scene(restorer: Restorer) -> None:
        with pytest.raises(BackendUnavailable, match="plug one in"):
            await restorer.start()
        assert restorer.status is Status.FAILED
        assert "plug one in" in str(restorer.failure)

    play(scene, BrokenBackend())


def test_what_was_accepted_before_a_drain_is_restored() -> None:
    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        with restorer.accepted():
            restorer.drain()  # while the upload is still being read
            assert restorer.active == 1
            restored = await restorer.restore(png(8, 8), RestoreRequest())
        assert restored.width == 8
        assert restorer.active == 0

    play(scene)


def test_stopping_twice_is_stopping_once() -> None:
    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        await restorer.stop(FOREVER_S)

    play(scene)
