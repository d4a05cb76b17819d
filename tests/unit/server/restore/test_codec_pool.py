"""Tests of the threads for codecs: what they still have to do, as it is predicted."""

import asyncio
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from server.errors import QueueFull
from server.metrics import Metrics
from server.restore.codec_pool import MAX_THREADS, RECENT_IMAGES, CodecThreads

KIND = ("png", "jpeg")


@pytest.fixture
def threads() -> CodecThreads:
    threads = CodecThreads(Metrics(CollectorRegistry()), max_backlog_s=1.0)
    threads.start()
    return threads


async def work_on(threads: CodecThreads, pixels: int, seconds: float, kind: object = KIND) -> None:
    with threads.announce(kind, pixels) as work:
        await work.run(lambda: time.sleep(seconds / 2))
        await work.run(lambda: time.sleep(seconds / 2))


def test_what_was_announced_is_pending_by_its_pixels_until_it_ends(threads: CodecThreads) -> None:
    async def scene() -> None:
        assert threads.backlog_s == 0
        await work_on(threads, 1000, 0.1)
        second_s = threads.predict(KIND, 1000)
        assert 0.1 <= second_s < 0.5
        with threads.announce(KIND, 3000), threads.announce(KIND, 500):
            assert threads.backlog_s == pytest.approx(3.5 * second_s / threads.count)
        assert threads.backlog_s == pytest.approx(0)

    asyncio.run(scene())


def test_beyond_the_bound_there_is_no_more_until_something_ends(threads: CodecThreads) -> None:
    async def scene() -> None:
        await work_on(threads, 1000, 0.1)
        pixels = round(threads.count * 1000 * 0.6 / threads.predict(KIND, 1000))  # for all threads 0.6 seconds
        threads.check()
        with threads.announce(KIND, pixels):
            threads.check()
            with threads.announce(KIND, pixels), pytest.raises(QueueFull) as refusal:
                threads.check()
            assert refusal.value.retry_after_s == 1.0
            threads.check()

    asyncio.run(scene())


def test_a_kind_that_was_never_seen_is_taken_for_the_costliest(threads: CodecThreads) -> None:
    async def scene() -> None:
        assert threads.predict(KIND, 1000) == 0
        await work_on(threads, 1000, 0.1)
        await work_on(threads, 1000, 0.02, ("png", "png"))
        assert threads.predict(("avif", "png"), 1000) == threads.predict(KIND, 1000)

    asyncio.run(scene())


def test_the_cost_follows_a_change_over_some_images(threads: CodecThreads) -> None:
    async def scene() -> None:
        await work_on(threads, 1000, 0.2)
        for _ in range(3 * RECENT_IMAGES):
            await work_on(threads, 1000, 0.0)
        assert threads.predict(KIND, 1000) < 0.05

    asyncio.run(scene())


def test_work_that_fails_is_no_longer_pending_and_teaches_nothing(threads: CodecThreads) -> None:
    async def scene() -> None:
        await work_on(threads, 1000, 0.1)
        known = threads.predict(KIND, 1000)
        with pytest.raises(ZeroDivisionError), threads.announce(KIND, 1000) as work:
            await work.run(lambda: 1 // 0)
        assert threads.backlog_s == pytest.approx(0)
        assert threads.predict(KIND, 1000) == known

    asyncio.run(scene())


def test_what_waits_at_the_stop_is_dropped(threads: CodecThreads) -> None:
    gate, ran = threading.Event(), []

    async def scene() -> None:
        running = [asyncio.ensure_future(threads.run(lambda: gate.wait(10))) for _ in range(threads.count)]
        waiting = asyncio.ensure_future(threads.run(lambda: ran.append(1)))
        await asyncio.sleep(0)
        threads.stop()
        gate.set()
        await asyncio.gather(*running)
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scene())
    assert not ran


def test_there_are_as_many_as_the_process_has_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for share, count in ((1, 1), (2, 2), (64, MAX_THREADS)):
        monkeypatch.setattr("server.restore.codec_pool.available_cores", lambda share=share: share)
        assert CodecThreads(Metrics(CollectorRegistry()), max_backlog_s=1.0).count == count
