"""Tests of the Restorer, on the real batcher, worker and simulated backend."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from server.app import create_restorer
from server.backends.base import BackendInfo, ModelInput, Pixels, Result, SizeRange
from server.backends.simulated import SimulatedBackend
from server.errors import (
    BackendError,
    BackendUnavailable,
    Draining,
    InvalidImage,
    MemoryShort,
    NotReady,
    QueueFull,
    UnsupportedSize,
)
from server.formats.output import PngEffort
from server.imaging.memory import DecodedRoom
from server.metrics import Metrics
from server.restore.options import Mode, Restored, RestoreOptions
from server.restore.photo import Photo
from server.restore.pipeline import Restorer, Status
from server.restore.request import RestoreRequest
from server.settings import Settings

MODEL = "promptnaf"
SETTINGS = Settings()
FOREVER_S = 60.0


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


class BrokenBackend(SimulatedBackend):
    """A backend that cannot start."""

    def __init__(self) -> None:
        super().__init__(base_ms=0.0, ms_per_megapixel=0.0, max_batch=8)

    def start(self) -> BackendInfo:
        raise BackendUnavailable("no such device; plug one in")


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
    restorer = create_restorer(settings, metrics, lambda _: backend or GatedBackend())

    async def run() -> None:
        try:
            await scene(restorer)
        finally:
            await restorer.stop(FOREVER_S)

    asyncio.run(run())
    return metrics


def test_an_image_comes_back_in_its_size_with_its_pixels_and_its_timings() -> None:
    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        with restorer.accepted():
            restored = await restorer.restore(png(13, 250), RestoreRequest())
        assert (restored.width, restored.height) == (250, 13)
        source = cv2.imdecode(np.frombuffer(png(13, 250), np.uint8), cv2.IMREAD_UNCHANGED)
        result = cv2.imdecode(np.frombuffer(restored.data, np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(result, source)
        assert restored.timings.batch_size == 1
        assert min(restored.timings.decode_s, restored.timings.inference_s, restored.timings.encode_s) > 0

    registry = play(scene).registry
    for stage in ("decode", "queue", "inference", "encode", "total"):
        assert registry.get_sample_value("promptir_stage_duration_seconds_count", {"model": MODEL, "stage": stage}) == 1


class SmallSizesBackend(SimulatedBackend):
    """A simulated backend that takes images of at most 64x64, as a plan with a small profile."""

    def __init__(self) -> None:
        super().__init__(base_ms=0.0, ms_per_megapixel=0.0, max_batch=8)

    def start(self) -> BackendInfo:
        info = super().start()
        model = replace(info.model, size_ranges=(SizeRange((8, 8), (64, 64)),))
        return replace(info, model=model, can_begin_ahead=False)

    def run(self, batch: ModelInput) -> Result:
        if max(batch.shape[2:]) > 64:
            raise UnsupportedSize("outside the profiles", allowed_sizes=[])
        return super().run(batch)


def test_an_image_that_no_profile_takes_whole_is_restored_in_tiles() -> None:
    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        restored = await restorer.restore(png(20, 250), RestoreRequest())
        assert (restored.width, restored.height, restored.mode) == (250, 20, Mode.TILED)
        result = cv2.imdecode(np.frombuffer(restored.data, np.uint8), cv2.IMREAD_UNCHANGED)
        source = cv2.imdecode(np.frombuffer(png(20, 250), np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(result, source)

    play(scene, SmallSizesBackend())


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


def test_a_bad_image_reaches_no_backend_and_leaves_nothing_active() -> None:
    backend = GatedBackend()

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        backend.running.clear()
        with pytest.raises(InvalidImage), restorer.accepted():
            await restorer.restore(b"no image", RestoreRequest())
        assert restorer.active == 0
        assert not backend.running.is_set()

    play(scene, backend)


async def until_one_waits(metrics: Metrics) -> None:
    while metrics.registry.get_sample_value("promptir_queue_tiles") == 0:  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(0)


def test_cancelling_a_restoration_that_waits_takes_its_job_out_of_the_queue() -> None:
    backend = GatedBackend()
    metrics = Metrics(CollectorRegistry())

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        backend.gate.clear()
        backend.running.clear()
        first = asyncio.create_task(restorer.restore(png(8, 8), RestoreRequest()))
        await asyncio.to_thread(backend.running.wait)
        second = asyncio.create_task(restorer.restore(png(8, 8), RestoreRequest()))
        await until_one_waits(metrics)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert metrics.registry.get_sample_value("promptir_queue_tiles") == 0
        backend.gate.set()
        assert (await first).width == 8

    play(scene, backend, metrics)
    assert metrics.registry.get_sample_value("promptir_dropped_tiles_total", {"reason": "cancelled"}) == 1


def test_an_image_that_is_refused_for_load_is_not_decoded() -> None:
    """It is damaged: whoever decoded it would say so instead."""
    metrics, backend = Metrics(CollectorRegistry()), GatedBackend()
    damaged = bytearray(png(64, 64))
    damaged[len(damaged) // 2] ^= 0xFF

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        backend.gate.clear()
        backend.running.clear()
        first = asyncio.create_task(restorer.restore(png(64, 64), RestoreRequest()))
        await asyncio.to_thread(backend.running.wait)
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


def test_stopping_twice_is_stopping_once() -> None:
    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        await restorer.stop(FOREVER_S)

    play(scene)


TILED = RestoreOptions(tile=64, overlap=16)


class FailingBackend(GatedBackend):
    """A backend whose n-th run after the start of the scene fails."""

    def __init__(self, failing: int) -> None:
        super().__init__()
        self.failing = failing
        self.runs = -(10**6)

    def run(self, batch: ModelInput) -> Result:
        self.runs += 1
        if self.runs == self.failing:
            raise BackendError("this run failed")
        return super().run(batch)


def test_progress_is_told_from_the_decoded_photo_to_the_last_tile() -> None:
    told: list[tuple[int, int]] = []

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        restored = await restorer.restore(
            png(300, 200), RestoreRequest(TILED), progress=lambda done, total: told.append((done, total))
        )
        assert (restored.mode, restored.tiles) == ("tiled", len(told) - 1)
        assert told == [(done, restored.tiles) for done in range(restored.tiles + 1)]
        await restorer.restore(png(30, 20), RestoreRequest(), progress=lambda done, total: told.append((done, total)))
        assert told[-2:] == [(0, 1), (1, 1)]

    play(scene)


def test_a_guide_that_fails_fails_its_photo_once() -> None:
    backend = FailingBackend(failing=1)
    metrics = Metrics(CollectorRegistry())

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        backend.runs = 0
        with pytest.raises(BackendError, match="this run failed"):
            await restorer.restore(png(400, 400), RestoreRequest(TILED))
        assert metrics.registry.get_sample_value("promptir_queue_tiles") == 0
        assert restorer.snapshot().backlog_ms < 1000

    play(scene, backend, metrics)


def test_one_failed_tile_fails_its_photo_once_and_takes_the_others_out_of_the_queue() -> None:
    backend = FailingBackend(failing=2)
    metrics = Metrics(CollectorRegistry())

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        backend.runs = 0
        with pytest.raises(BackendError, match="this run failed"):
            await restorer.restore(png(400, 400), RestoreRequest(TILED))
        assert metrics.registry.get_sample_value("promptir_queue_tiles") == 0
        assert restorer.snapshot().backlog_ms < 1000
        assert (await restorer.restore(png(8, 8), RestoreRequest())).width == 8

    play(scene, backend, metrics)


def test_cancelling_a_photo_takes_all_its_tiles_out_of_the_queue() -> None:
    backend = GatedBackend()
    metrics = Metrics(CollectorRegistry())

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        backend.gate.clear()
        backend.running.clear()
        photo = asyncio.create_task(restorer.restore(png(600, 600), RestoreRequest(TILED)))
        await asyncio.to_thread(backend.running.wait)
        await until_one_waits(metrics)
        photo.cancel()
        with pytest.raises(asyncio.CancelledError):
            await photo
        assert metrics.registry.get_sample_value("promptir_queue_tiles") == 0
        backend.gate.set()

    play(scene, backend, metrics)


def test_images_that_the_codecs_have_no_time_for_are_refused_before_they_are_decoded() -> None:
    """With a device that takes no time, nothing else would bound what waits for the threads."""
    slow_to_write, bound_s, count = RestoreOptions(effort=PngEffort.SMALL), 0.2, 40
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
