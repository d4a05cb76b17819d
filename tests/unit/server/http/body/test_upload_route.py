"""Tests of the route of an upload: what is left of one that was refused."""

import asyncio
import weakref
from types import SimpleNamespace
from typing import Any, cast

import pytest

from server.errors import UndecodableImage
from server.http.body.body import UploadRoom
from server.http.body.upload_route import Exchange, UploadRoute
from server.settings import LimitSettings


class Upload:
    """Stands for the bytes of an upload, to which there are no weak references."""


alive: weakref.WeakSet[Upload] = weakref.WeakSet()


class Damaged(UploadRoute):
    """Refuses each upload by an error in a future, as work in a thread does: a cycle of it and of this frame."""

    async def answer(self, exchange: Exchange) -> Any:
        upload = Upload()
        alive.add(upload)
        work = asyncio.get_running_loop().create_future()
        work.set_exception(UndecodableImage("It is damaged."))
        return await work


@pytest.mark.usefixtures("without_collector")
def test_a_refused_upload_is_gone_without_the_garbage_collector() -> None:
    statuses = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))

    async def run() -> None:
        route = Damaged(cast(Any, SimpleNamespace(limits=LimitSettings())), UploadRoom(100))
        scope = {"type": "http", "path": "/restore", "raw_path": b"/restore", "root_path": "", "headers": []}
        await route(scope, receive, send)
        assert statuses[0] == 422
        assert not alive

    asyncio.run(run())
