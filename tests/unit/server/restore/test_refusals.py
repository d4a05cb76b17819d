"""Tests of what a Restorer refuses, for load and for want of memory, before it costs anything."""

import asyncio
import time

import cv2
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from restorers import GatedBackend, play, png, until_one_waits

from server.backends.base import ModelInput, Pixels, Result
from server.backends.simulated import SimulatedBackend
from server.errors import (
    InvalidImage,
    MemoryShort,
    QueueFull,
)
from server.formats.output import PngEffort
from server.imaging.memory import DecodedRoom
from server.metrics import Metrics
from server.restore.options import Restored, RestoreOptions
from server.restore.photo import Photo
from server.restore.pipeline import Restorer
from server.restore.request import RestoreRequest
from server.settings import Settings


def test_large_images_beyond_the_room_are_refused_before_they_are_decoded_and_the_room_is_given_back() -> None:
    backend = GatedBackend()
    large = cv2.imencode(".png", np.zeros((3000, 3000, 3), np.uint8))[1].tobytes()  # 27 MB decoded

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        restorer._decoded = DecodedRoom(50 * 2**20)
        backend.gate.clear()
        first = asyncio.create_task(restorer.restore(large, RestoreRequest()))
        while not restorer._decoded.held_bytes:  # noqa: ASYNC110 - there is nothing to be told by
            await asyncio.sleep(0.001)
        with pytest.raises(QueueFull, match="decoded"):
            await restorer.restore(large, RestoreRequest())
        backend.gate.set()
        assert (await first).width == 3000
        assert restorer._decoded.held_bytes == 0

    metrics = play(scene, backend)
    assert metrics.registry.get_sample_value("promptir_refusals_total", {"reason": "queue-full"}) == 1


def test_a_shortage_of_memory_under_way_is_a_refusal_and_nothing_is_held_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut(photo: Photo, tile: object) -> Pixels:
        raise MemoryError

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        with monkeypatch.context() as patch:
            patch.setattr(Photo, "cut", cut)
            for size in ((16, 16), (300, 300), (2000, 2000)):
                with pytest.raises(MemoryShort):
                    await restorer.restore(png(*size), RestoreRequest())
        assert restorer._decoded.held_bytes == 0
        assert (await restorer.restore(png(16, 16), RestoreRequest())).width == 16

    play(scene)


def test_a_backend_that_has_no_memory_is_a_refusal_too() -> None:
    class Poor(GatedBackend):
        is_short = False

        def run(self, batch: ModelInput) -> Result:
            if self.is_short:
                raise MemoryError
            return super().run(batch)

    backend = Poor()

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        backend.is_short = True
        with pytest.raises(MemoryShort):
            await restorer.restore(png(16, 16), RestoreRequest())
        with pytest.raises(MemoryShort):
            await restorer.restore_frames(np.zeros((1, 3, 16, 16), np.float32), RestoreRequest())

    play(scene, backend)


def test_an_image_that_is_refused_for_load_is_not_decoded() -> None:
    """It is damaged, so decoding it would give another error."""
    metrics, backend = Metrics(CollectorRegistry()), GatedBackend()
    damaged = bytearray(png(64, 64))
    damaged[len(damaged) // 2] ^= 0xFF

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        first = await backend.held_at_gate(restorer.restore(png(64, 64), RestoreRequest()))
        second = asyncio.create_task(restorer.restore(png(64, 64), RestoreRequest()))
        await until_one_waits(metrics)
        with pytest.raises(QueueFull):
            await restorer.restore(bytes(damaged), RestoreRequest())
        backend.gate.set()
        await asyncio.gather(first, second)
        with pytest.raises(InvalidImage):
            await restorer.restore(bytes(damaged), RestoreRequest())

    registry = play(scene, backend, metrics, Settings.from_environment({"max_queued_pixels": 64 * 64})).registry
    assert registry.get_sample_value("promptir_refusals_total", {"reason": "queue-full"}) == 1


def test_images_that_the_codecs_have_no_time_for_are_refused_before_they_are_decoded() -> None:
    """Otherwise images would pile up before the codec threads, because this device takes no time."""
    slow_to_write, bound_s, count = RestoreOptions(effort=PngEffort.SMALL), 0.2, 160
    settings = Settings.from_environment({"max_backlog_ms": bound_s * 1e3})

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        for _ in range(2):
            await restorer.restore(png(300, 300), RestoreRequest(slow_to_write))
        began = time.monotonic()
        ends = await asyncio.gather(
            *(restorer.restore(png(300, 300), RestoreRequest(slow_to_write)) for _ in range(count)),
            return_exceptions=True,
        )
        refused = [end for end in ends if isinstance(end, QueueFull)]
        assert 0 < len(refused) < count
        assert all("reading and writing" in end.detail and end.retry_after_s >= 1 for end in refused)
        assert len(ends) - len(refused) == sum(isinstance(end, Restored) for end in ends)
        assert time.monotonic() - began < 20 * bound_s
        for side in (300, 64):  # finished images are no longer counted
            with RestoreRequest(slow_to_write) as request:
                restorer.admit(request, side, side, input_format="PNG")

    metrics = play(scene, SimulatedBackend(base_ms=0, ms_per_megapixel=0, max_batch=8), settings=settings)
    refusals = metrics.registry.get_sample_value("promptir_refusals_total", {"reason": "queue-full"})
    assert refusals is not None
    assert refusals > 0
