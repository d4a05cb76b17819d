"""Tests of a photo in tiles: progress, a run that fails, and a caller who leaves."""

import asyncio
import threading

import pytest
from prometheus_client import CollectorRegistry
from restorers import GatedBackend, play, png, until_one_waits

from server.backends.base import ModelInput, Result
from server.errors import BackendError
from server.formats import codec
from server.formats.codec import Image
from server.formats.header import Header
from server.formats.output import ColourPolicy
from server.metrics import Metrics
from server.restore.codec_pool import MAX_THREADS
from server.restore.options import RestoreOptions
from server.restore.pipeline import Restorer
from server.restore.request import RestoreRequest

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


@pytest.mark.parametrize("failing", [1, 2], ids=["the guide", "a tile"])
def test_one_failed_run_fails_its_photo_once_and_takes_the_others_out_of_the_queue(failing: int) -> None:
    backend = FailingBackend(failing)
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
        photo = await backend.held_at_gate(restorer.restore(png(600, 600), RestoreRequest(TILED)))
        await until_one_waits(metrics)
        photo.cancel()
        with pytest.raises(asyncio.CancelledError):
            await photo
        assert metrics.registry.get_sample_value("promptir_queue_tiles") == 0
        backend.gate.set()

    play(scene, backend, metrics)


def test_an_image_of_one_run_overtakes_photos_in_tiles_that_are_being_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, decode = threading.Event(), codec.decode

    def held(data: bytes, header: Header, colours: ColourPolicy) -> Image:
        if header.width == 300:
            gate.wait(10)
        return decode(data, header, colours)

    monkeypatch.setattr(codec, "decode", held)

    async def scene(restorer: Restorer) -> None:
        await restorer.start()
        large = [
            asyncio.create_task(restorer.restore(png(300, 300), RestoreRequest(TILED))) for _ in range(MAX_THREADS)
        ]
        small = await asyncio.wait_for(restorer.restore(png(200, 200), RestoreRequest()), 10)
        assert small.mode == "whole"
        assert not any(task.done() for task in large)
        gate.set()
        assert [restored.mode for restored in await asyncio.gather(*large)] == ["tiled"] * MAX_THREADS

    play(scene)
