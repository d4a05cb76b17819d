"""Tests of the Restorer, on the real batcher, worker and simulated backend."""

import asyncio
import threading
import zlib
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from restorers import GatedBackend, play, png, until_one_waits

from server.backends.base import BackendInfo, ModelInput, Result, SizeRange
from server.backends.simulated import SimulatedBackend
from server.errors import (
    InvalidImage,
    UnsupportedSize,
)
from server.formats import codec
from server.formats.png import reader
from server.formats.png.writer import png_chunk
from server.metrics import Metrics
from server.restore.options import Mode
from server.restore.pipeline import Restorer
from server.restore.request import RestoreRequest

MODEL = "promptnaf"


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


def test_metadata_of_a_small_file_that_inflates_to_megabytes_is_not_handled_on_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, str] = {}

    def watched(module: object, name: str) -> None:
        work = getattr(module, name)

        def noting(*arguments: Any) -> Any:
            seen[name] = threading.current_thread().name
            return work(*arguments)

        monkeypatch.setattr(module, name, noting)

    watched(reader, "_inflate")
    watched(codec, "without_claims")
    xmp = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x/>" + b" " * 2_000_000)
    small = png(8, 8)
    data = small[:33] + png_chunk(b"iTXt", xmp) + small[33:]
    assert len(data) < 4096

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        assert (await restorer.restore(data, RestoreRequest())).width == 8

    play(scene)
    assert sorted(seen) == ["_inflate", "without_claims"]
    assert threading.main_thread().name not in seen.values()


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


def test_cancelling_a_restoration_that_waits_takes_its_tile_out_of_the_queue() -> None:
    backend = GatedBackend()
    metrics = Metrics(CollectorRegistry())

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        first = await backend.held_at_gate(restorer.restore(png(8, 8), RestoreRequest()))
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
