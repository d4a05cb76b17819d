"""Tests that no upload and no pixels are left to the garbage collector, which looks rarely."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from kept_garbage import REPORT

SIDE = 128  # tens of kilobytes, as a file and as pixels


@pytest.fixture(scope="module")
def watched(session_start: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a server that tells what its garbage collector finds."""
    first = "from tests.support import kept_garbage; kept_garbage.watch()"
    return session_start(first=first, jobs_folder=tmp_path_factory.mktemp("jobs")).until_ready()


@pytest.fixture
def left(watched: Any) -> Callable[[], dict[str, int]]:
    """Return what was left since the test began: objects that hold something large, by type."""
    watched.process.send_signal(signal.SIGUSR1)
    watched.client.get("/healthz")

    def report() -> dict[str, int]:
        before = len(watched.lines)
        watched.process.send_signal(signal.SIGUSR2)
        watched.until(lambda: any(line["message"] == REPORT for line in watched.lines[before:]))
        found: dict[str, int] = next(line for line in watched.lines[before:] if line["message"] == REPORT)["large"]
        return found

    return report


@pytest.mark.parametrize("as_form", [False, True], ids=["raw", "form"])
@pytest.mark.parametrize(
    ("damage", "query", "status"),
    [
        (lambda data: data, "", 200),
        (lambda data: data, "?tile=64&overlap=16", 200),
        (lambda data: data[: len(data) // 2], "", 422),
        (lambda data: b"x" * len(data), "", 415),
        (lambda data: data, "?tile=7", 400),
    ],
    ids=["restored", "in tiles", "cut off", "no image", "wrong option"],
)
def test_an_answer_leaves_nothing_large(
    watched: Any, left: Any, png: Any, damage: Any, query: str, status: int, as_form: bool
) -> None:
    data = damage(png(SIDE, SIDE))
    body: dict[str, Any] = {"files": {"file": ("a.png", data)}} if as_form else {"content": data}
    for _ in range(3):
        assert watched.client.post(f"/restore{query}", **body).status_code == status
    assert left() == {}


def test_a_client_that_leaves_leaves_nothing_large(watched: Any, left: Any, png: Any) -> None:
    async def leave() -> None:
        async with httpx.AsyncClient(base_url=watched.url) as client:
            for number in range(8):
                asking = asyncio.ensure_future(client.post("/restore?tile=64&overlap=16", content=png(512, 512)))
                await asyncio.sleep(0.01 * number)
                asking.cancel()
                with suppress(asyncio.CancelledError):
                    await asking

    asyncio.run(leave())
    watched.until(lambda: watched.metric("promptir_queue_tiles") == 0)
    assert watched.client.post("/restore", content=png(SIDE, SIDE)).status_code == 200
    assert left() == {}


def test_a_failed_job_leaves_nothing_large(watched: Any, left: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    whole = cv2.imencode(".jpg", noise)[1].tobytes()  # its header is read at once, and its pixels in the job
    for _ in range(3):
        job = watched.client.post("/v1/jobs", files={"file": ("a.jpg", whole[: len(whole) // 2])}).json()["id"]
        watched.until(lambda job=job: watched.client.get(f"/v1/jobs/{job}").json()["state"] == "failed")
    assert left() == {}
