"""Tests of how a body is read, counted and dropped."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from server.errors import ImageTooLarge, QueueFull, UploadStalled
from server.http.body import body as body_module
from server.http.body.body import PORTION_BYTES, Body, UploadRoom

STALL_S = 30.0


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
    body = Body(receiver([b"12", b"345"]), None, 10, room, STALL_S)
    assert asyncio.run(read(body)) == b"12345"
    assert room.used_bytes == 5
    body.release()
    body.release()
    assert room.used_bytes == 0


def test_without_room_it_is_refused_and_says_when_to_come_back() -> None:
    room = UploadRoom(6)
    first, second = (Body(receiver([b"1234", b"5"]), None, 10, room, STALL_S) for _ in range(2))
    assert asyncio.run(first.chunk()) == b"1234"
    with pytest.raises(QueueFull) as caught:
        asyncio.run(second.chunk())
    assert caught.value.retry_after_s > 0
    second.release()
    assert room.used_bytes == 4
    first.release()
    assert room.used_bytes == 0


def test_what_has_arrived_is_read_without_a_timer() -> None:
    room, waits = UploadRoom(100), []

    async def receive() -> dict[str, object]:
        waits.append(len(room.waits))
        return {"type": "http.request", "body": b"12", "more_body": len(waits) < 3}

    arrived = iter([True, False, True])
    assert asyncio.run(read(Body(receive, None, 10, room, STALL_S, lambda: next(arrived)))) == b"121212"
    assert waits == [0, 1, 0]


def test_a_declared_length_over_the_limit_is_refused_before_anything_is_received() -> None:
    async def never() -> dict[str, object]:
        raise AssertionError("received")

    with pytest.raises(ImageTooLarge):
        asyncio.run(Body(never, 11, 10, UploadRoom(100), STALL_S).chunk())


def test_an_undeclared_length_over_the_limit_is_refused_where_it_passes_it() -> None:
    body = Body(receiver([b"12345", b"12345", b"1", b"never"]), None, 10, UploadRoom(100), STALL_S)
    with pytest.raises(ImageTooLarge):
        asyncio.run(read(body))
    assert not body.ended


def test_a_client_that_leaves_in_the_middle_is_seen() -> None:
    with pytest.raises(ClientDisconnect):
        asyncio.run(read(Body(receiver([b"12"], gone=True), None, 10, UploadRoom(100), STALL_S)))


def test_the_rest_is_dropped_up_to_its_end_a_disconnect_or_the_size_of_some_uploads() -> None:
    room = UploadRoom(100)
    whole = Body(receiver([b"12", b"34", b"5"]), None, 10, room, STALL_S)
    asyncio.run(whole.discard())
    assert whole.ended
    asyncio.run(Body(receiver([b"12"], gone=True), None, 10, room, STALL_S).discard())
    left = [b"1234"] * 50
    assert sum(map(len, left)) > 10 * body_module.LINGER_UPLOADS
    endless = Body(receiver(left), None, 10, room, STALL_S)
    asyncio.run(endless.discard())
    assert not endless.ended
    assert room.used_bytes == room.lingering == 0


def test_nothing_is_dropped_for_one_that_says_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "SILENT_S", 0.02)
    monkeypatch.setattr(body_module, "LINGER_S", 3600.0)

    async def silent() -> dict[str, object]:
        await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    room = UploadRoom(100)
    asyncio.run(asyncio.wait_for(Body(silent, None, 10, room, STALL_S).discard(), 20))
    assert room.lingering == 0


def test_one_that_drips_is_not_listened_to_for_longer_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "LINGER_S", 0.2)
    asyncio.run(asyncio.wait_for(Body(drip, None, 1000, UploadRoom(100), STALL_S).discard(), 20))


async def drip() -> dict[str, object]:
    await asyncio.sleep(0.01)
    return {"type": "http.request", "body": b"1", "more_body": True}


def test_so_many_at_most_are_listened_to_once_they_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "LINGER_S", 3600.0)
    monkeypatch.setattr(body_module, "LAST_LINGER_S", 0.01)
    monkeypatch.setattr(body_module, "MOST_LINGERING", 2)
    room = UploadRoom(100)

    async def run() -> None:
        bodies = [Body(drip, None, 1000, room, STALL_S) for _ in range(2)]
        dropping = [asyncio.create_task(body.discard()) for body in bodies]
        await asyncio.sleep(0.02)
        assert room.lingering == 2
        await Body(never_asked, None, 1000, room, STALL_S).discard()
        room.close()  # ends those that are listened to
        await asyncio.gather(*dropping)

    asyncio.run(run())
    assert room.lingering == 0


async def never_asked() -> dict[str, object]:
    raise AssertionError("there is no room to listen to one more")


def dripping(pieces: int, size: int, clock: list[float], pause_s: float) -> Any:
    """An ASGI `receive` whose pieces take `pause_s` seconds of the loop's time each."""

    async def receive() -> dict[str, object]:
        nonlocal pieces
        clock[0] += pause_s
        pieces -= 1
        await asyncio.sleep(0)  # a turn of the loop, in which what is overdue is cancelled
        await asyncio.sleep(0)
        return {"type": "http.request", "body": bytes(size), "more_body": pieces > 0}

    return receive


def read_at(clock: list[float], body: Body) -> int:
    loop = asyncio.new_event_loop()
    loop.time = lambda: clock[0]  # type: ignore[method-assign]
    try:
        return len(loop.run_until_complete(read(body)))
    finally:
        loop.close()


def test_an_upload_that_pauses_too_long_is_refused_with_what_is_allowed() -> None:
    clock = [0.0]
    body = Body(dripping(2, 10, clock, 31.0), None, 10**9, UploadRoom(10**9), STALL_S)
    with pytest.raises(UploadStalled, match="30 seconds") as caught:
        read_at(clock, body)
    assert caught.value.extensions == {"upload_stall_s": 30.0}


def test_small_pieces_without_a_pause_stall_as_well() -> None:
    clock = [0.0]
    body = Body(dripping(100, 10, clock, 1.0), None, 10**9, UploadRoom(10**9), STALL_S)
    with pytest.raises(UploadStalled):
        read_at(clock, body)
    assert clock[0] < 33


def test_what_came_quickly_pays_for_no_stall_later() -> None:
    clock = [0.0]
    quick = dripping(1000, PORTION_BYTES, clock, 0.001)
    slow = dripping(100, 10, clock, 1.0)

    async def receive() -> dict[str, object]:
        return await (quick() if clock[0] < 0.5 else slow())

    with pytest.raises(UploadStalled):
        read_at(clock, Body(receive, None, 10**9, UploadRoom(10**9), STALL_S))
    assert clock[0] < 34


def test_a_slow_upload_that_goes_on_is_read_to_its_end() -> None:
    clock = [0.0]
    body = Body(dripping(20, PORTION_BYTES, clock, 29.0), None, 10**9, UploadRoom(10**9), STALL_S)
    assert read_at(clock, body) == 20 * PORTION_BYTES
    assert clock[0] > 500
