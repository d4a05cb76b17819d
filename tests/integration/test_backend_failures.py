"""What clients see when the backend fails: a real server in a thread, with a backend that does."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx
import numpy as np
import pytest
import uvicorn

from server.app import create_app
from server.backends.base import BackendInfo, Pixels
from server.backends.simulated import SimulatedBackend
from server.errors import BackendError, DeviceOutOfMemory
from server.settings import Settings

WAIT_S = 30.0

Image = Callable[..., bytes]


class FailingBackend(SimulatedBackend):
    """A backend whose runs, after the warm-up, do what they are told."""

    def __init__(self) -> None:
        super().__init__(base_ms=0.0, ms_per_megapixel=0.0, max_batch=4)
        self.failure: Callable[[Pixels], Pixels] | None = None

    def start(self) -> BackendInfo:
        return replace(super().start(), can_begin_ahead=False)  # all runs must go through the one below

    def run(self, batch: Pixels) -> Pixels:
        return self.failure(batch) if self.failure else super().run(batch)


@contextmanager
def serving(backend: FailingBackend) -> Iterator[httpx.Client]:
    app = create_app(Settings(), backend)

    @app.get("/crash")
    async def crash() -> None:
        raise ZeroDivisionError("a secret of the inside")

    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAIT_S) as client:
            while client.get("/readyz").status_code != 200:
                thread.join(0.01)
            yield client
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        assert not thread.is_alive()


@pytest.fixture
def backend() -> FailingBackend:
    return FailingBackend()


@pytest.fixture
def client(backend: FailingBackend) -> Iterator[httpx.Client]:
    with serving(backend) as client:
        yield client


def raises(error: BaseException) -> Callable[[Pixels], Pixels]:
    def run(batch: Pixels) -> Pixels:
        raise error

    return run


def restore(client: httpx.Client, png: Image) -> httpx.Response:
    return client.post("/restore", content=png(8, 8), headers={"Content-Type": "image/png"})


@pytest.mark.parametrize(
    ("failure", "slug"),
    [
        (raises(BackendError("the device is out of memory")), "backend-error"),
        (raises(ZeroDivisionError("a secret of the inside")), "backend-error"),
        (lambda batch: batch[:, :, :4], "wrong-output"),
        (lambda batch: np.full_like(batch, np.nan), "wrong-output"),
    ],
)
def test_a_run_that_fails_is_500_and_the_next_one_works(
    failure: Callable[[Pixels], Pixels], slug: str, backend: FailingBackend, client: httpx.Client, png: Image
) -> None:
    backend.failure = failure
    response = restore(client, png)
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == f"urn:promptir:problem:{slug}"
    assert "secret" not in response.text
    backend.failure = None
    assert restore(client, png).status_code == 200


def test_an_image_that_fits_no_memory_is_507_and_a_smaller_one_is_restored(
    backend: FailingBackend, client: httpx.Client, png: Image
) -> None:
    def small_only(batch: Pixels) -> Pixels:
        if batch.shape[-1] > 8:
            raise DeviceOutOfMemory("no room")
        return batch.copy()

    backend.failure = small_only
    response = client.post("/restore", content=png(8, 24), headers={"Content-Type": "image/png"})
    assert response.status_code == 507
    problem = response.json()
    assert (problem["type"], problem["image_pixels"]) == ("urn:promptir:problem:device-out-of-memory", 192)
    assert "24x8 pixels does not fit" in problem["detail"]
    assert restore(client, png).status_code == 200


def test_a_backend_that_is_lost_makes_the_service_unready(
    backend: FailingBackend, client: httpx.Client, png: Image
) -> None:
    backend.failure = raises(SystemExit())
    response = restore(client, png)
    assert (response.status_code, response.json()["type"]) == (500, "urn:promptir:problem:backend-lost")
    readiness = client.get("/readyz")
    assert (readiness.status_code, readiness.json()) == (503, {"status": "failed"})
    refusal = restore(client, png)
    assert (refusal.status_code, refusal.json()["type"]) == (503, "urn:promptir:problem:not-ready")
    assert client.get("/healthz").status_code == 200


def test_an_exception_nobody_foresaw_is_500_without_internals_and_logged_with_the_request_id(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    response = client.get("/crash", headers={"X-Request-ID": "find-me"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == "find-me"
    assert response.json()["type"] == "urn:promptir:problem:internal-error"
    assert "secret" not in response.text
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)
    assert vars(record)["failed_request"] == "find-me"
