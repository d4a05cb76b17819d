"""The Python client against real servers: busy, draining, restarted, and with jobs."""

import asyncio
import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from promptir_client import (
    AsyncClient,
    Client,
    InvalidImage,
    InvalidRequest,
    Job,
    JobFailed,
    NotFound,
    Retries,
    ServerFailed,
    TimedOut,
    TooManyRequests,
    Unavailable,
    Unreachable,
)

Image = Callable[..., bytes]
QUICK = Retries(attempts=40, first_s=0.05, longest_s=0.5)
WAIT_S = 30.0


class Waiting:
    """AsyncClient with the methods of Client: the tests marked `both` run over both."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *arguments, **named: self._runner.run(method(*arguments, **named))

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()


Connect = Callable[..., Any]
both = pytest.mark.parametrize("kind", [Client, Waiting])


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make clients, closed with the test."""
    made: list[Any] = []

    def make(url: str, kind: Any = Client, **named: Any) -> Any:
        made.append(kind(url, **({"retries": QUICK, "timeout": WAIT_S} | named)))
        return made[-1]

    yield make
    for client in made:
        client.close()


@both
def test_every_kind_of_image_goes_in_and_comes_out(
    kind: Any, server: Any, connect: Connect, png: Image, tmp_path: Path
) -> None:
    client = connect(server.url, kind)
    array = np.random.default_rng(5).integers(0, 2**16, (9, 14, 3), np.uint16)
    assert np.array_equal(client.restore(array).numpy(), array)
    picture = PIL.Image.fromarray((array >> 8).astype(np.uint8))
    assert np.array_equal(np.asarray(client.restore(picture).pil()), np.asarray(picture))
    path = tmp_path / "photo.png"
    path.write_bytes(png(9, 14))
    restored = client.restore(path)
    assert (restored.media_type, restored.mode, restored.pil().size) == ("image/png", "whole", (14, 9))
    assert restored.timings.inference_ms is not None
    assert restored.timings.batch_size == 1
    assert restored.request_id
    assert client.restore(path.read_bytes()).data == restored.data


@both
def test_options_and_the_report_are_typed(kind: Any, server: Any, connect: Connect, png: Image) -> None:
    restored = connect(server.url, kind).restore(
        png(40, 24), report=True, format="webp", strength=0.5, priority="batch"
    )
    assert (restored.media_type, restored.pil().format) == ("image/webp", "WEBP")
    assert (restored.report.width, restored.report.height, restored.report.tiles) == (24, 40, 1)
    assert restored.report.change.max_abs == 0
    assert restored.report.change.psnr_db is None


@both
def test_problems_are_exceptions_and_are_not_tried_again(kind: Any, server: Any, connect: Connect, png: Image) -> None:
    client = connect(server.url, kind)
    with pytest.raises(InvalidImage, match="undecodable") as undecodable:
        client.restore(png(9, 9)[:70])
    assert (undecodable.value.status, undecodable.value.slug) == (422, "undecodable-image")
    with pytest.raises(InvalidRequest) as invalid:
        client.restore(png(9, 9), quality=101)
    assert invalid.value.members["errors"][0]["name"] == "quality"
    with pytest.raises(ServerFailed) as off:
        client.job("0" * 32)
    assert (off.value.status, off.value.slug) == (501, "jobs-off")


def test_nobody_there_is_said_after_the_attempts(connect: Connect, png: Image) -> None:
    with pytest.raises(Unreachable):
        connect("http://127.0.0.1:9", retries=Retries(attempts=2, first_s=0.01)).restore(png(8, 8))
    with pytest.raises(ValueError, match="not the URL"):
        connect("127.0.0.1:8000")


def test_a_full_queue_is_waited_out_by_all(start: Any, png: Image) -> None:
    server = start(simulated_base_ms=150, max_batch=1, max_backlog_ms=400).until_ready()
    with Client(server.url, timeout=WAIT_S) as client, ThreadPoolExecutor(8) as senders:
        images = [png(16, 16, seed=seed) for seed in range(8)]
        assert all(restored.data for restored in senders.map(client.restore, images))
    assert server.metric('promptir_requests_total{outcome="queue-full",status="429"}') > 0
    assert server.metric('promptir_requests_total{outcome="restored",status="200"}') == 8
    with Client(server.url, retries=Retries(attempts=1)) as hasty, ThreadPoolExecutor(8) as senders:
        results = [senders.submit(hasty.restore, png(16, 16, seed=seed)) for seed in range(10, 18)]
        refusals = [result.exception() for result in results if result.exception() is not None]
    assert refusals
    for refusal in refusals:
        assert isinstance(refusal, TooManyRequests)
        assert refusal.retry_after_s is not None


def test_a_drain_and_a_restart_are_waited_out(start: Any, connect: Connect, png: Image, tmp_path: Path) -> None:
    first = start(gate=tmp_path / "gate", max_batch=1, drain_timeout_s=60).until_ready()
    port = int(first.url.rsplit(":", 1)[1])
    with ThreadPoolExecutor(2) as senders:
        with first.holding():
            slow = senders.submit(connect(first.url).restore, png(16, 16, seed=1))
            first.until(first.running)
            first.terminate()
            first.until(lambda: first.client.get("/readyz").status_code == 503)
            with pytest.raises(Unavailable) as draining:
                connect(first.url, retries=Retries(attempts=1)).restore(png(16, 16, seed=2))
            assert draining.value.slug == "draining"
            patient = senders.submit(connect(first.url).restore, png(16, 16, seed=3))
        assert slow.result().data
        assert first.wait() == 0
        second = start(port=port).until_ready()
        assert patient.result().data
    assert second.metric('promptir_requests_total{outcome="restored",status="200"}') == 1


def test_the_time_of_a_call_is_kept(start: Any, connect: Connect, png: Image) -> None:
    server = start(simulated_base_ms=3000).until_ready()
    for kind in (Client, Waiting):
        with pytest.raises(TimedOut):
            connect(server.url, kind, timeout=0.3).restore(png(16, 16))


def test_a_job_is_followed_through_a_crash_of_the_server(
    start: Any, connect: Connect, png: Image, tmp_path: Path
) -> None:
    settings = {"jobs_folder": tmp_path, "simulated_base_ms": 150, "max_batch": 1}
    first = start(**settings).until_ready()
    client = connect(first.url, Waiting)
    data = png(96, 160)
    job = client.submit(data, tile=64, overlap=0, report=True)
    assert job.state in ("queued", "running")
    seen: list[Job] = []
    crashed = threading.Event()

    def progress(now: Job) -> None:
        seen.append(now)
        if now.tiles_done and not crashed.is_set():
            crashed.set()
            first.process.send_signal(signal.SIGKILL)
            first.wait()
            restarting.append(restarter.submit(start, port=int(first.url.rsplit(":", 1)[1]), **settings))

    restarting: list[Any] = []
    with ThreadPoolExecutor(1) as restarter:
        restored = client.wait(job, progress, timeout=WAIT_S)
    assert crashed.is_set()
    assert np.array_equal(restored.numpy(), client.restore(data).numpy())
    assert (restored.mode, restored.report.tiles) == ("tiled", seen[-1].tiles)
    assert seen[-1].state == "done"
    client.cancel(job)
    with pytest.raises(NotFound):
        client.job(job)


def test_a_job_that_fails_says_why(start: Any, connect: Connect, png: Image, tmp_path: Path) -> None:
    server = start(jobs_folder=tmp_path, simulated_base_ms=400, max_batch=1).until_ready()
    for kind in (Client, Waiting):
        client = connect(server.url, kind)
        with pytest.raises(JobFailed, match="cancelled"):
            client.wait(client.submit(png(96, 160), tile=64, overlap=0), lambda job: give_up(server, job))


def give_up(server: Any, job: Job) -> None:
    if not job.is_final:
        server.client.delete(f"/v1/jobs/{job.id}")


def test_forked_processes_get_their_own_photos(server: Any, connect: Connect, png: Image) -> None:
    client = connect(server.url)
    client.restore(png(8, 8))  # a connection is open now

    def right(number: int) -> bool:
        sent = [png(24, 32, seed=100 * number + at) for at in range(8)]
        return all(np.array_equal(client.restore(one).numpy(), pixels_of(one)) for one in sent)

    children = [fork(right, number) for number in range(1, 4)]
    assert right(0)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]
    assert right(9)


def test_a_client_inside_a_pool_raises_what_the_server_said(server: Any) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for _ in range(2):  # an error that cannot be unpickled breaks the pool for all that follows
            with pytest.raises(InvalidImage, match="415 unsupported-image"):
                pool.submit(restore_once, server.url, b"no image").result(timeout=WAIT_S)


def test_hundreds_of_calls_at_once_take_turns(server: Any, png: Image) -> None:
    photos = [png(8, 12, seed=seed) for seed in range(200)]
    open_at_once = []

    async def all_of_them() -> list[Any]:
        async with AsyncClient(server.url, timeout=WAIT_S, concurrency=4) as client:
            http_pool = client._pool.get()
            calls = [client.restore(photo) for photo in photos]
            answers = await asyncio.gather(*calls)
            open_at_once.append(len(http_pool._made))
            return answers

    answers = asyncio.run(all_of_them())
    assert [answer.numpy().tolist() for answer in answers] == [pixels_of(photo).tolist() for photo in photos]
    assert open_at_once == [4]


def test_the_time_of_a_call_begins_with_its_turn(start: Any, png: Image) -> None:
    server = start(simulated_base_ms=300, max_batch=1).until_ready()
    calls, timeout_s = 20, 5.0  # together they take longer than one may, and a busy machine has seconds for each

    async def in_turn() -> list[Any]:
        async with AsyncClient(server.url, timeout=timeout_s, concurrency=1) as client:
            return await asyncio.gather(*(client.restore(png(8, 8, seed=seed)) for seed in range(calls)))

    assert len(asyncio.run(in_turn())) == calls


def test_calls_go_on_while_jobs_are_followed(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(simulated_base_ms=400, max_batch=1, jobs_folder=tmp_path / "jobs").until_ready()

    async def both_at_once() -> list[Any]:
        async with AsyncClient(server.url, timeout=WAIT_S, concurrency=2) as client:
            jobs = [await client.submit(png(8, 8, seed=seed)) for seed in range(4)]
            waits = [asyncio.ensure_future(client.wait(job, timeout=WAIT_S)) for job in jobs]
            await asyncio.sleep(0)
            await client.job(jobs[-1])
            return await asyncio.gather(*waits)

    assert len(asyncio.run(both_at_once())) == 4


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(data)))


def fork(work: Callable[[int], bool], number: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work(number) else 1)
        finally:
            os._exit(2)
    return child


def restore_once(url: str, data: bytes) -> int:
    with Client(url, timeout=5) as client:
        return len(client.restore(data).data)
