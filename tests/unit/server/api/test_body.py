"""Tests of how a body is read, counted and dropped."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from server.api.body import Body, UploadRoom
from server.errors import ImageTooLarge, QueueFull


def receiver(chunks: Iterable[bytes], gone: bool = False) -> Any:
    """An ASGI `receive` that gives these chunks, and then nothing more or a disconnect."""
    left = list(chunks)

    async def receive() -> dict[str, object]:
        if not left:
            return {"type": "http.disconnect"}
        chunk = left.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(left) or gone}

    return receive


async def read(body: Body) -> bytes:
    parts = []
    while not body.ended:
        parts.append(await body.chunk())
    return b"".join(parts)


def test_the_room_is_taken_while_the_bytes_are_held() -> None:
    room = UploadRoom(100)
    body = Body(receiver([b"12", b"345"]), None, 10, room)
    assert asyncio.run(read(body)) == b"12345"
    assert room.used_bytes == 5
    body.release()
    body.release()
    assert room.used_bytes == 0


def test_without_room_it_is_refused_and_says_when_to_come_back() -> None:
    room = UploadRoom(6)
    first, second = (Body(receiver([b"1234", b"5"]), None, 10, room) for _ in range(2))
    assert asyncio.run(first.chunk()) == b"1234"
    with pytest.raises(QueueFull) as caught:
        asyncio.run(second.chunk())
    assert caught.value.retry_after_s > 0
    second.release()
    assert room.used_bytes == 4
    first.release()
    assert room.used_bytes == 0


def test_a_declared_length_over_the_limit_is_refused_before_anything_is_received() -> None:
    async def never() -> dict[str, object]:
        raise AssertionError("received")

    with pytest.raises(ImageTooLarge):
        asyncio.run(Body(never, 11, 10, UploadRoom(100)).chunk())


def test_an_undeclared_length_over_the_limit_is_refused_where_it_passes_it() -> None:
    body = Body(receiver([b"12345", b"12345", b"1", b"never"]), None, 10, UploadRoom(100))
    with pytest.raises(ImageTooLarge):
        asyncio.run(read(body))
    assert not body.ended


def test_a_client_that_leaves_in_the_middle_is_seen() -> None:
    with pytest.raises(ClientDisconnect):
        asyncio.run(read(Body(receiver([b"12"], gone=True), None, 10, UploadRoom(100))))


def test_the_rest_is_dropped_up_to_its_end_a_disconnect_or_the_size_of_an_upload() -> None:
    room = UploadRoom(100)
    whole = Body(receiver([b"12", b"34", b"5"]), None, 10, room)
    asyncio.run(whole.discard())
    assert whole.ended
    asyncio.run(Body(receiver([b"12"], gone=True), None, 10, room).discard())
    left = [b"1234"] * 50
    endless = Body(receiver(left), None, 10, room)
    asyncio.run(endless.discard())
    assert not endless.ended
    assert room.used_bytes == 0
