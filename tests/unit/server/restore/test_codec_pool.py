"""Tests of the threads for codecs: what they still have to do, as it is predicted."""

import asyncio
import threading

import pytest
from prometheus_client import CollectorRegistry

from server.errors import QueueFull
from server.imaging import tiling
from server.metrics import Metrics
from server.restore.codec_pool import MAX_THREADS, RECENT_IMAGES, Codecs, CodecThreads

KIND = ("png", "jpeg")
ONE_RUN, IN_TILES = tiling.plan(256, 256, 8), tiling.plan(256, 256, 8, tile=64)


class Clock:
    """Stands still except while a codec works."""

    now = 0.0

    def work(self, seconds: float) -> None:
        self.now += seconds


CLOCK = Clock()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.restore.codec_pool.time.perf_counter", lambda: CLOCK.now)


@pytest.fixture
def codecs() -> Codecs:
    codecs = Codecs(Metrics(CollectorRegistry()), max_backlog_s=1.0)
    codecs.start()
    return codecs


@pytest.fixture
def threads(codecs: Codecs) -> CodecThreads:
    return codecs.whole


async def work_on(threads: CodecThreads, pixels: int, seconds: float, kind: object = KIND) -> None:
    with threads.announce(kind, pixels) as work:
        await work.run(lambda: CLOCK.work(seconds / 2))
        await work.run(lambda: CLOCK.work(seconds / 2))


def test_what_was_announced_is_pending_by_its_pixels_until_it_ends(threads: CodecThreads) -> None:
    async def scene() -> None:
        assert threads.backlog_s == 0
        await work_on(threads, 1000, 0.1)
        second_s = threads.predict(KIND, 1000)
        assert second_s == pytest.approx(0.1)
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
    gate, inside, ran = threading.Event(), threading.Semaphore(0), []

    def hold() -> bool:
        inside.release()
        return gate.wait(10)

    async def scene() -> None:
        running = [asyncio.ensure_future(threads.run(hold)) for _ in range(threads.count)]
        for _ in running:
            assert await asyncio.to_thread(inside.acquire, timeout=10)
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
        codecs = Codecs(Metrics(CollectorRegistry()), max_backlog_s=1.0)
        assert codecs.whole.count == codecs.tiled.count == count


def test_each_codec_process_has_a_thread_and_photos_in_tiles_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.restore.codec_pool.available_cores", lambda: 2)
    codecs = Codecs(Metrics(CollectorRegistry()), max_backlog_s=1.0, processes=8)
    assert (codecs.whole.count, codecs.tiled.count) == (8, 2)


def test_an_image_of_one_run_does_not_wait_for_photos_in_tiles(codecs: Codecs) -> None:
    gate = threading.Event()
    tiled, whole = codecs.of(IN_TILES), codecs.of(ONE_RUN)

    async def scene() -> None:
        photos = [asyncio.ensure_future(tiled.run(lambda: gate.wait(10))) for _ in range(4 * tiled.count)]
        await asyncio.sleep(0)
        assert await asyncio.wait_for(whole.run(lambda: "done"), 10) == "done"
        assert not any(photo.done() for photo in photos)
        gate.set()
        assert all(await asyncio.gather(*photos))
        codecs.stop()

    asyncio.run(scene())


def test_the_backlog_of_photos_in_tiles_refuses_only_further_photos_in_tiles(codecs: Codecs) -> None:
    tiled, whole = codecs.of(IN_TILES), codecs.of(ONE_RUN)

    async def scene() -> None:
        await work_on(tiled, 1000, 0.1)
        await work_on(whole, 1000, 0.1)
        pixels = round(2 * tiled.count * 1000 / tiled.predict(KIND, 1000))  # two seconds for all threads
        with tiled.announce(KIND, pixels):
            whole.check()
            with pytest.raises(QueueFull):
                tiled.check()

    asyncio.run(scene())


def test_the_metric_is_the_backlog_of_all_images() -> None:
    registry = CollectorRegistry()
    codecs = Codecs(Metrics(registry), max_backlog_s=1.0)
    codecs.start()

    async def scene() -> None:
        await work_on(codecs.whole, 1000, 0.1)
        await work_on(codecs.tiled, 1000, 0.1)
        with codecs.whole.announce(KIND, 1000), codecs.tiled.announce(KIND, 3000):
            sum_s = codecs.whole.backlog_s + codecs.tiled.backlog_s
            assert registry.get_sample_value("promptir_codec_backlog_seconds") == pytest.approx(sum_s)
            assert sum_s > codecs.tiled.backlog_s > 0

    asyncio.run(scene())
