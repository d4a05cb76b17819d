"""Tests of how many messages are received at a time, and who has to wait."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from server.errors import Draining, QueueFull, UploadStalled
from server.grpc import inbox as module
from server.grpc.inbox import Inbox

LONG_S, GRACE_S = 20.0, 0.02


async def message(data: bytes = b"m") -> AsyncIterator[bytes]:
    yield data


async def silence() -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


async def beat() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(work: Callable[[Inbox], Coroutine[Any, Any, None]], patience_s: float = LONG_S) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LONG_S / 2):
            await work(Inbox(2, patience_s, GRACE_S))

    asyncio.run(bounded())


def test_a_message_is_received_and_its_iterator_closed() -> None:
    async def work(inbox: Inbox) -> None:
        requests = message(b"one")
        assert await inbox.only(requests) == b"one"
        with pytest.raises(StopAsyncIteration):
            await anext(requests)
        with pytest.raises(StopAsyncIteration):
            await inbox.only(message_less())

    async def message_less() -> AsyncIterator[bytes]:
        return
        yield b""

    run(work)


def test_silence_ends_after_the_patience() -> None:
    async def work(inbox: Inbox) -> None:
        with pytest.raises(UploadStalled, match=r"within 0\.05 seconds"):
            await inbox.only(silence())

    run(work, patience_s=0.05)


def test_any_number_of_silent_calls_does_not_keep_a_message_out() -> None:
    async def work(inbox: Inbox) -> None:
        silent = [asyncio.create_task(inbox.only(silence())) for _ in range(50)]
        await beat()
        assert await inbox.only(message()) == b"m"  # long before the patience of any of them
        for task in silent:
            task.cancel()
        ended = await asyncio.gather(*silent, return_exceptions=True)
        assert any(isinstance(end, UploadStalled) for end in ended)
        assert await inbox.only(message()) == b"m"

    run(work)


def test_those_who_were_there_keep_their_time_where_nobody_waits() -> None:
    async def work(inbox: Inbox) -> None:
        slow = [asyncio.create_task(inbox.only(silence())) for _ in range(2)]
        await asyncio.sleep(GRACE_S * 5)
        assert not any(task.done() for task in slow)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)

    run(work)


def test_more_than_can_wait_are_refused_the_first_of_them_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)

    async def work(inbox: Inbox) -> None:
        inbox._grace_s = LONG_S
        silent = [asyncio.create_task(inbox.only(silence())) for _ in range(6)]
        await beat()
        assert [task.done() for task in silent] == [False, False, True, False, False, False]
        with pytest.raises(QueueFull):
            await silent[2]
        for task in silent:
            task.cancel()
        await asyncio.gather(*silent, return_exceptions=True)
        assert await inbox.only(message()) == b"m"

    run(work)


def test_places_are_not_lost_where_those_who_wait_leave() -> None:
    async def work(inbox: Inbox) -> None:
        for _ in range(3):
            tasks = [asyncio.create_task(inbox.only(silence())) for _ in range(6)]
            await beat()
            tasks[0].cancel()  # its place goes to one that is cancelled in the same moment
            tasks[5].cancel()
            await beat()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert await asyncio.gather(inbox.only(message()), inbox.only(message())) == [b"m", b"m"]
        assert inbox._free == 2

    run(work)


def test_its_end_ends_receptions_and_all_that_wait() -> None:
    async def work(inbox: Inbox) -> None:
        silent = [asyncio.create_task(inbox.only(silence())) for _ in range(5)]
        await beat()
        inbox.close()
        ended = await asyncio.gather(*silent, return_exceptions=True)
        assert [type(end) for end in ended] == [Draining] * 5
        with pytest.raises(Draining):
            await inbox.only(message())

    run(work)
