"""What clients see when the backend fails: a real server in a thread, with a backend that does."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import httpx
import numpy as np
import pytest
import uvicorn

from server.app import create_app
from server.backends.base import BackendInfo, ModelInput, Pixels, Result
from server.backends.simulated import SimulatedBackend
from server.errors import BackendError, BackendLost, BackendUnavailable, DeviceOutOfMemory, UnsupportedSize
from server.settings import Settings

WAIT_S = 30.0
# The sides of the warm-up's padded shapes begin here; what these tests send is smaller.
WARM_UP_SIDE = 32

Image = Callable[..., bytes]


class Faults:
    """Makes the backends of a server, and tells all of them what goes wrong."""

    def __init__(self) -> None:
        self.failure: Callable[[Pixels], Pixels] | None = None
        self.start_error: BackendUnavailable | None = None
        self.made: list[FailingBackend] = []

    def new_backend(self, device: str) -> "FailingBackend":
        self.made.append(FailingBackend(self))
        return self.made[-1]


class FailingBackend(SimulatedBackend):
    """A backend whose runs, after the warm-up, do what they are told."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(base_ms=0.0, ms_per_megapixel=0.0, max_batch=4)
        self.faults = faults
        self.stopped = threading.Event()

    def start(self) -> BackendInfo:
        if self.faults.start_error is not None:
            raise self.faults.start_error
        return replace(super().start(), can_begin_ahead=False)  # all runs must go through the one below

    def run(self, batch: ModelInput) -> Result:
        if self.faults.failure is None or batch.shape[-1] >= WARM_UP_SIDE:
            return super().run(batch)
        return Result(self.faults.failure(batch.pixels))

    def stop(self) -> None:
        super().stop()
        self.stopped.set()


@contextmanager
def serving(faults: Faults, **backend: object) -> Iterator[httpx.Client]:
    app = create_app(Settings.from_environment({"backend": "simulated", **backend}), lambda *_: faults.new_backend)

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
def faults() -> Faults:
    return Faults()


@pytest.fixture
def client(faults: Faults) -> Iterator[httpx.Client]:
    with serving(faults) as client:
        yield client


def raises(error: BaseException) -> Callable[[Pixels], Pixels]:
    def run(batch: Pixels) -> Pixels:
        raise error

    return run


def restore(client: httpx.Client, png: Image, seed: int = 0) -> httpx.Response:
    return client.post("/restore", content=png(8, 8, seed=seed), headers={"Content-Type": "image/png"})


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
    failure: Callable[[Pixels], Pixels], slug: str, faults: Faults, client: httpx.Client, png: Image
) -> None:
    faults.failure = failure
    response = restore(client, png)
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == f"urn:promptir:problem:{slug}"
    assert "secret" not in response.text
    faults.failure = None
    assert restore(client, png).status_code == 200


def test_a_size_that_the_artifact_does_not_take_is_422_with_the_sizes_that_it_does(
    faults: Faults, client: httpx.Client, png: Image
) -> None:
    faults.failure = raises(UnsupportedSize("an image of 8x8 pixels is outside", allowed_sizes=["16x16 to 64x64"]))
    response = restore(client, png)
    assert response.status_code == 422
    problem = response.json()
    assert problem["type"] == "urn:promptir:problem:unsupported-size"
    assert (problem["detail"], problem["allowed_sizes"]) == ("an image of 8x8 pixels is outside", ["16x16 to 64x64"])
    faults.failure = None
    assert restore(client, png).status_code == 200


def test_an_image_that_fits_no_memory_is_507_and_a_smaller_one_is_restored(
    faults: Faults, client: httpx.Client, png: Image
) -> None:
    def small_only(batch: Pixels) -> Pixels:
        if batch.shape[-1] > 8:
            raise DeviceOutOfMemory("no room")
        return batch.copy()

    faults.failure = small_only
    response = client.post("/restore", content=png(8, 24), headers={"Content-Type": "image/png"})
    assert response.status_code == 507
    problem = response.json()
    assert (problem["type"], problem["image_pixels"]) == ("urn:promptir:problem:device-out-of-memory", 192)
    assert "24x8 pixels does not fit" in problem["detail"]
    assert restore(client, png).status_code == 200


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < give_up, "what was waited for did not come"
        time.sleep(0.01)


def until_ready(client: httpx.Client) -> None:
    until(lambda: client.get("/readyz").status_code == 200)


def slug_of(response: httpx.Response) -> str:
    return str(response.json()["type"]).removeprefix("urn:promptir:problem:")


def metric(client: httpx.Client, name: str) -> float:
    return next(
        float(line.rsplit(" ", 1)[1])
        for line in client.get("/metrics").text.splitlines()
        if line.startswith(f"{name} ")
    )


@pytest.mark.parametrize("error", [SystemExit(), BackendLost("CUDA error 700")])
def test_a_backend_that_is_lost_makes_the_service_unready_until_it_is_started_again(
    error: BaseException, faults: Faults, client: httpx.Client, png: Image
) -> None:
    faults.failure = raises(error)
    faults.start_error = BackendUnavailable("the device is busy")
    response = restore(client, png)
    assert (response.status_code, slug_of(response)) == (500, "backend-lost")
    assert "sent again" in response.json()["detail"]
    assert "CUDA" not in response.text
    readiness = client.get("/readyz")
    assert (readiness.status_code, readiness.json()) == (503, {"status": "failed"})
    refusal = restore(client, png)
    assert (refusal.status_code, slug_of(refusal)) == (503, "not-ready")
    assert client.get("/healthz").status_code == 200
    faults.failure = faults.start_error = None
    until_ready(client)
    assert restore(client, png).status_code == 200
    assert metric(client, 'promptir_device_rebuilds_total{device="sim:0"}') == 1
    condition = 'promptir_device_condition{device="sim:0",promptir_device_condition="ready"}'
    assert metric(client, condition) == 1
    assert all(backend.stopped.is_set() for backend in faults.made[:-1])


def test_what_waits_behind_a_run_that_loses_its_backend_is_restored_by_the_next_one(faults: Faults, png: Image) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold_and_die(batch: Pixels) -> Pixels:
        entered.set()
        assert go_on.wait(WAIT_S)
        faults.failure = None
        raise BackendLost("gone")

    faults.failure = hold_and_die
    with serving(faults) as client, ThreadPoolExecutor(3) as senders:
        running = senders.submit(restore, client, png)
        assert entered.wait(WAIT_S)
        waiting = [senders.submit(restore, client, png, seed) for seed in (1, 2)]  # equal ones would run once
        until(lambda: metric(client, "promptir_queue_tiles") == 2)
        go_on.set()
        assert slug_of(running.result()) == "backend-lost"
        assert [response.result().status_code for response in waiting] == [200, 200]


def test_a_run_that_hangs_is_answered_and_the_service_goes_on_with_a_fresh_backend(faults: Faults, png: Image) -> None:
    come_back = threading.Event()

    def hang(batch: Pixels) -> Pixels:
        faults.failure = None
        assert come_back.wait(WAIT_S)
        return batch.copy()

    faults.failure = hang
    with serving(faults, run_timeout_s=0.3) as client:
        response = restore(client, png)
        assert (response.status_code, slug_of(response)) == (500, "backend-lost")
        until_ready(client)
        assert restore(client, png).status_code == 200
        come_back.set()
        assert faults.made[0].stopped.wait(WAIT_S)
        assert restore(client, png).status_code == 200


def test_with_two_devices_the_loss_of_one_leaves_the_service_ready(faults: Faults, png: Image) -> None:
    losses: list[int] = []

    def die_once(batch: Pixels) -> Pixels:
        losses.append(1)
        faults.failure = None
        faults.start_error = BackendUnavailable("it does not come back")
        raise BackendLost("gone")

    with serving(faults, devices="sim:0,sim:1") as client:
        conditions = 'promptir_device_condition{device="sim:%d",promptir_device_condition="ready"}'
        until(lambda: sum(metric(client, conditions % number) for number in range(2)) == 2)
        faults.failure = die_once
        assert slug_of(restore(client, png)) == "backend-lost"
        for _ in range(10):
            assert client.get("/readyz").status_code == 200
            assert restore(client, png).status_code == 200
        assert sum(metric(client, conditions % number) for number in range(2)) == 1
    assert losses == [1]


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
