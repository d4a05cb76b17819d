"""Tests of the load shedder: who is counted, and when a burst is more than the loop can read."""

import asyncio
import json
import time
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from server.errors import QueueFull
from server.http.protocol.load_shedder import RECENT_TURNS, TELLING_REQUESTS, LoadShedder
from server.metrics import Metrics
from server.restore.pipeline import Restorer


class Admitting:
    """Notes how many are said to be on their way, and refuses with what it was given."""

    def __init__(self, max_backlog_s: float = 30.0) -> None:
        self.max_backlog_s = max_backlog_s
        self.arriving: list[int] = []
        self.refusal: QueueFull | None = None

    def admit_any(self, arriving: int, upload_bytes: int) -> None:
        self.arriving.append(arriving)
        if self.refusal is not None:
            raise self.refusal


def shedder_of(restorer: Admitting) -> LoadShedder:
    return LoadShedder(cast(Restorer, restorer), Metrics(CollectorRegistry()))


def test_requests_of_this_turn_count_as_arriving_and_those_of_the_last_hold_tickets() -> None:
    restorer = Admitting()
    shedder = shedder_of(restorer)

    async def scene() -> None:
        for _ in range(3):
            assert shedder.refusal((), 100) is None
        await asyncio.sleep(0)
        assert shedder.refusal((), 100) is None
        await asyncio.sleep(0)
        assert shedder.refusal((), 100) is None
        for _ in range(3):
            await asyncio.sleep(0)
        assert shedder.refusal((), 100) is None

    asyncio.run(scene())
    assert restorer.arriving == [0, 1, 2, 0, 0, 0]


def test_who_is_refused_does_not_count() -> None:
    restorer = Admitting()
    restorer.refusal = QueueFull("full", 3.2)
    shedder = shedder_of(restorer)

    async def scene() -> None:
        answer = shedder.refusal([(b"x-request-id", b"mine")], 100)
        assert answer is not None
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\nretry-after: 4\r\n" in head
        assert b"\r\ncontent-length: %d\r\n" % len(body) in head
        assert json.loads(body)["instance"] == "urn:promptir:request:mine"
        shedder.refusal((), 100)

    asyncio.run(scene())
    assert restorer.arriving == [0, 0]


@pytest.mark.parametrize(("max_backlog_s", "most"), [(30.0, 100), (0.4, 20)])
def test_a_burst_that_would_keep_the_loop_busy_is_cut(
    max_backlog_s: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests of 5 ms each: half a second of them pass at once, or a quarter of the bound where that is less."""
    now = [0.0]
    monkeypatch.setattr("server.http.protocol.load_shedder.time.perf_counter", lambda: now[0])

    def take(seconds: float) -> None:
        now[0] += seconds

    restorer = Admitting(max_backlog_s)
    shedder = shedder_of(restorer)

    async def scene() -> int:
        loop = asyncio.get_running_loop()
        for _ in range(6 * RECENT_TURNS):
            for _ in range(TELLING_REQUESTS):
                assert shedder.refusal((), 100) is None
                loop.call_soon(take, 0.005)
            for _ in range(3):
                await asyncio.sleep(0)
        return sum(shedder.refusal((), 100) is None for _ in range(300))

    passed = asyncio.run(scene())
    assert 0.5 * most <= passed <= 1.1 * most


def test_a_slow_turn_with_few_requests_refuses_nobody() -> None:
    shedder = shedder_of(Admitting())

    async def scene() -> int:
        for _ in range(4):
            assert shedder.refusal((), 100) is None
            asyncio.get_running_loop().call_soon(time.sleep, 0.3)
            for _ in range(3):
                await asyncio.sleep(0)
        return sum(shedder.refusal((), 100) is None for _ in range(300))

    assert asyncio.run(scene()) == 300
