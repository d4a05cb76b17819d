"""Tests of the room for uploads at the end of the server: nobody waits on, and nobody is left without an answer."""

import asyncio
from typing import Any

import pytest

from server.errors import Draining, UploadStalled
from server.http.body import body as body_module
from server.http.body.body import Body, UploadRoom


async def never() -> Any:
    await asyncio.Event().wait()


def upload(room: UploadRoom, stall_s: float = 60.0) -> Body:
    return Body(never, None, 100, room, stall_s)


def test_uploads_that_wait_are_refused_as_the_room_closes() -> None:
    async def run() -> None:
        room = UploadRoom(100)
        waiting = [asyncio.create_task(upload(room).chunk()) for _ in range(3)]
        await asyncio.sleep(0.01)
        room.close()
        for task in waiting:
            with pytest.raises(Draining):
                await task

    asyncio.run(asyncio.wait_for(run(), 20))


def test_one_that_comes_later_does_not_wait_either() -> None:
    async def run() -> None:
        room = UploadRoom(100)
        room.close()
        with pytest.raises(Draining):
            await upload(room).chunk()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_what_is_being_dropped_is_dropped_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LINGER_S", "SILENT_S"):
        monkeypatch.setattr(body_module, name, 3600.0)
    monkeypatch.setattr(body_module, "LAST_LINGER_S", 0.01)

    async def run() -> None:
        room = UploadRoom(100)
        dropping = asyncio.create_task(upload(room).discard())
        await asyncio.sleep(0.01)
        room.close()
        await dropping

    asyncio.run(asyncio.wait_for(run(), 20))


def test_an_upload_that_stalls_in_an_open_room_is_told_so() -> None:
    with pytest.raises(UploadStalled):
        asyncio.run(upload(UploadRoom(100), stall_s=0.01).chunk())
