"""Tests of requests to restore: what they hold from their first bytes on, and how they give it back."""

import asyncio
from collections.abc import Awaitable, Callable
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image
from prometheus_client import CollectorRegistry

from server.backends.simulated import SimulatedBackend
from server.errors import InvalidImage, QueueFull
from server.metrics import Metrics
from server.restore.byte_room import ByteRoom, Reservation
from server.restore.options import RestoreOptions
from server.restore.pipeline import Restorer
from server.restore.request import RestoreRequest
from server.settings import Settings
from server.wiring import create_restorer

SIDE = 64


def png(height: int, width: int) -> bytes:
    samples = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(".png", samples)[1].tobytes()


def play(scene: Callable[[Restorer], Awaitable[None]], **settings: object) -> None:
    backend = SimulatedBackend(base_ms=0.0, ms_per_megapixel=0.0, max_batch=8)
    chosen = Settings.from_environment(settings)
    restorer = create_restorer(chosen, Metrics(CollectorRegistry()), lambda *_: lambda _: backend)

    async def run() -> None:
        await restorer.start()
        try:
            await scene(restorer)
        finally:
            await restorer.stop(60)

    asyncio.run(run())


def room_for(count: int) -> dict[str, object]:
    """A queue that holds this many images of the tests."""
    return {"max_queued_pixels": count * SIDE * SIDE}


def test_a_request_that_its_first_bytes_admitted_keeps_its_place_until_it_is_restored() -> None:
    async def scene(restorer: Restorer) -> None:
        with RestoreRequest() as first:
            restorer.admit(first, SIDE, SIDE, input_format="PNG")
            with pytest.raises(QueueFull):
                await restorer.restore(png(SIDE, SIDE), RestoreRequest())
            assert (await restorer.restore(png(SIDE, SIDE), first)).width == SIDE
        assert (await restorer.restore(png(SIDE, SIDE), RestoreRequest())).width == SIDE

    play(scene, **room_for(1))


def test_the_place_of_a_slow_upload_lapses_and_it_is_admitted_again_once_it_is_whole() -> None:
    async def scene(restorer: Restorer) -> None:
        with RestoreRequest() as slow, RestoreRequest() as quick:
            restorer.admit(slow, SIDE, SIDE, input_format="PNG")
            slow.lapse_after(0.0)
            await asyncio.sleep(0.01)
            assert slow.ticket is None
            restorer.admit(quick, SIDE, SIDE, input_format="PNG")
            with pytest.raises(QueueFull):
                await restorer.restore(png(SIDE, SIDE), slow)
            quick.close()
            assert (await restorer.restore(png(SIDE, SIDE), slow)).width == SIDE

    play(scene, **room_for(1))


def test_a_place_that_is_kept_in_time_does_not_lapse() -> None:
    async def scene(restorer: Restorer) -> None:
        with RestoreRequest() as request:
            restorer.admit(request, SIDE, SIDE, input_format="PNG")
            request.lapse_after(0.0)
            request.keep_ticket()
            await asyncio.sleep(0.01)
            assert request.ticket is not None

    play(scene)


def test_an_image_on_its_side_is_admitted_by_its_stored_size_and_restored_as_shown() -> None:
    stored, exif = Image.new("RGB", (200, 64), (90, 120, 30)), Image.Exif()
    exif[0x0112] = 6
    file = BytesIO()
    stored.save(file, "JPEG", exif=exif)

    async def scene(restorer: Restorer) -> None:
        with RestoreRequest() as request:
            restorer.admit(request, 64, 200, input_format="JPEG")
            restored = await restorer.restore(file.getvalue(), request)
        assert (restored.height, restored.width) == (200, 64)
        assert restored.padded_shape == (200, 64)
        assert restorer.snapshot().backlog_ms == 0

    play(scene)


@pytest.mark.parametrize("options", [RestoreOptions(), RestoreOptions(tile=64, overlap=16)], ids=["whole", "tiled"])
def test_the_room_of_an_upload_is_given_back_once_it_is_decoded(options: RestoreOptions) -> None:
    room = ByteRoom(10**9)
    held: list[int] = []

    async def scene(restorer: Restorer) -> None:
        data = png(300, 200)
        request = RestoreRequest(options, upload=Reservation(room))
        assert request.upload is not None
        request.upload.take(len(data))
        await restorer.restore(data, request, lambda done, total: held.append(room.used_bytes))

    play(scene)
    assert held[0] == 0


def test_whatever_ends_a_request_gives_back_all_that_it_holds() -> None:
    room = ByteRoom(10**9)

    async def scene(restorer: Restorer) -> None:
        for data in (b"not an image", png(300, 200)):
            request = RestoreRequest(RestoreOptions(tile=64, overlap=16), upload=Reservation(room))
            assert request.upload is not None
            request.upload.take(100)
            restorer.admit(request, 300, 200, input_format="PNG")
            work = asyncio.create_task(restorer.restore(data, request))
            if data.startswith(b"not"):
                with pytest.raises(InvalidImage):
                    await work
            else:
                await asyncio.sleep(0)
                work.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await work
            assert (room.used_bytes, request.ticket) == (0, None)
            assert restorer.snapshot().backlog_ms == 0

    play(scene)
