"""Tests of the runs of a photo, on the real batcher, worker and simulated backend: its tiles and their guide."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from server.backends.base import BackendInfo, ModelInput, Result
from server.backends.simulated import AUX, SimulatedBackend
from server.imaging import tiling
from server.metrics import Metrics
from server.restore.options import Restored, RestoreOptions
from server.restore.pipeline import Restorer
from server.restore.request import RestoreRequest
from server.settings import Settings
from server.wiring import create_restorer

TILED = RestoreOptions(tile=64, overlap=16)
FOREVER_S = 60.0


class MoodyBackend(SimulatedBackend):
    """A device whose network decides tone by all that it sees: it moves the mean of each image to the middle."""

    def __init__(self) -> None:
        super().__init__(base_ms=0.0, ms_per_megapixel=0.0, max_batch=8)
        self.images = 0

    def start(self) -> BackendInfo:
        return replace(super().start(), can_begin_ahead=False)  # all runs go through the one below

    def run(self, batch: ModelInput) -> Result:
        self.images += len(batch.pixels)
        return Result(batch.pixels + (np.float32(0.5) - batch.pixels.mean(axis=(1, 2, 3), keepdims=True)))


def play(scene: Callable[[Restorer], Awaitable[None]], backend: SimulatedBackend, **settings: object) -> None:
    """Run a scene with a restorer that has started, and is stopped afterwards."""
    restorer = create_restorer(
        Settings.from_environment(settings), Metrics(CollectorRegistry()), lambda *_: lambda _: backend
    )

    async def run() -> None:
        try:
            await restorer.start()
            await scene(restorer)
        finally:
            await restorer.stop(FOREVER_S)

    asyncio.run(run())


def ramp(dtype: type = np.uint8) -> bytes:
    """A photo that is dark at the left and bright at the right, so that no two columns of tiles have one mean."""
    line = np.linspace(0.3, 0.7, 400) * np.iinfo(dtype).max
    return cv2.imencode(".png", np.broadcast_to(line[None, :, None], (200, 400, 3)).astype(dtype))[1].tobytes()


def pixels_of(restored: Restored) -> np.ndarray:
    samples = cv2.imdecode(np.frombuffer(restored.data, np.uint8), cv2.IMREAD_UNCHANGED)
    return samples / np.iinfo(samples.dtype).max


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_photo_in_tiles_is_in_the_tone_of_its_whole_frame(dtype: type, strength: float) -> None:
    async def scene(restorer: Restorer) -> None:
        whole = await restorer.restore(ramp(dtype), RestoreRequest(RestoreOptions(strength=strength)))
        tiled = await restorer.restore(ramp(dtype), RestoreRequest(replace(TILED, strength=strength)))
        np.testing.assert_allclose(pixels_of(tiled), pixels_of(whole), atol=1.5 / 255)
        if dtype is np.uint16:
            assert len(np.unique(pixels_of(tiled))) > 256

    play(scene, MoodyBackend())


def test_without_the_guide_the_tone_of_each_tile_is_its_own_and_no_run_is_added() -> None:
    backend = MoodyBackend()

    async def scene(restorer: Restorer) -> None:
        backend.images = 0
        tiled = await restorer.restore(ramp(), RestoreRequest(TILED))
        assert tiled.tiles == backend.images
        assert np.ptp(pixels_of(tiled)) < 0.2  # and it would be 0.4

    play(scene, backend, tone_guide=False)


def test_the_guide_is_a_run_like_those_of_tiles() -> None:
    backend = MoodyBackend()
    told: list[tuple[int, int]] = []

    async def scene(restorer: Restorer) -> None:
        backend.images = 0
        guided = await restorer.restore(
            ramp(), RestoreRequest(TILED), progress=lambda done, total: told.append((done, total))
        )
        assert guided.tiles == backend.images == told[-1][0] == told[-1][1]
        assert len(tiling.plan(200, 400, 8, tile=64, overlap=16)) == guided.tiles - 1

    play(scene, backend)


def test_a_photo_that_is_cancelled_in_the_run_of_its_guide_leaves_nothing_behind() -> None:
    class Holding(MoodyBackend):
        """Holds the guide's run while it is not open: it sees the whole ramp, and a tile half of it."""

        def __init__(self) -> None:
            super().__init__()
            self.is_running, self.is_open = threading.Event(), threading.Event()
            self.is_open.set()

        def run(self, batch: ModelInput) -> Result:
            if np.ptp(batch.pixels) > 0.35:
                self.is_running.set()
                self.is_open.wait(FOREVER_S)
            return super().run(batch)

    backend, told = Holding(), list[tuple[int, int]]()

    async def scene(restorer: Restorer) -> None:
        backend.is_open.clear()
        backend.is_running.clear()
        options = replace(TILED, tile=256, overlap=0)  # one run holds one such tile
        photo = asyncio.create_task(
            restorer.restore(ramp(), RestoreRequest(options), progress=lambda done, total: told.append((done, total)))
        )
        await asyncio.to_thread(backend.is_running.wait, FOREVER_S)
        photo.cancel()
        with pytest.raises(asyncio.CancelledError):
            await photo
        assert told == [(0, 3)]
        backend.images = 0
        backend.is_open.set()
        after = await restorer.restore(ramp(), RestoreRequest(options))
        assert (after.tiles, backend.images) == (3, 1 + 3)  # the run that had begun, and no tile of the cancelled photo
        assert restorer.snapshot().backlog_ms == 0

    play(scene, backend, max_run_pixels=256 * 256)


def test_the_frames_of_a_tensor_have_a_guide_each() -> None:
    async def scene(restorer: Restorer) -> None:
        line = np.linspace(0.3, 0.7, 400, dtype=np.float32)
        frame = np.broadcast_to(line, (3, 200, 400))
        frames = np.stack([frame, frame[:, :, ::-1]])
        tiled = await restorer.restore_frames(frames, RestoreRequest(TILED))
        whole = await restorer.restore_frames(frames, RestoreRequest())
        np.testing.assert_allclose(np.stack(tiled.frames), np.stack(whole.frames), atol=1.5 / 255)

    play(scene, MoodyBackend())


def test_a_report_has_the_prompt_weights_of_the_whole_frame() -> None:
    class Telling(MoodyBackend):
        """Answers the first image of a photo, its reduced frame, with other weights than its tiles."""

        def run(self, batch: ModelInput) -> Result:
            aux = AUX.empty(len(batch.pixels))
            aux[:] = (batch.pixels.std(axis=(1, 2, 3)) > 0.1)[:, None, None]
            return replace(super().run(batch), aux=aux)

    async def scene(restorer: Restorer) -> None:
        restored = await restorer.restore(ramp(), RestoreRequest(replace(TILED, report=True)))
        assert restored.report is not None
        assert np.all(np.equal(restored.report.prompt_weights, 1))

    play(scene, Telling())


def test_the_tag_of_an_answer_says_whether_there_is_a_guide() -> None:
    tags = []

    async def scene(restorer: Restorer) -> None:
        tags.append(await restorer.tag(b"photo", RestoreOptions()))

    for wanted in (True, False):
        play(scene, MoodyBackend(), tone_guide=wanted)
    assert tags[0] != tags[1]
