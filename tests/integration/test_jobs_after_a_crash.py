"""Jobs when the server is killed in the middle of whatever it does."""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

Image = Callable[..., bytes]
Samples = Callable[[bytes], np.ndarray]

# A test of this length is what `make test` can afford; more rounds find what these do not: see docs/jobs.md.
ROUNDS = 12
SENDERS = 2
# A server is killed after at most this many accepted jobs and this many seconds, however fast the machine is.
MOST_JOBS_OF_A_LIFE = 10
LONGEST_WAIT_S = 0.05
SEED = 20


class Submitter:
    """Sends jobs of its own images until the server is gone; remembers those that were answered with 202."""

    def __init__(self, images: dict[int, bytes], url: str, seed: int) -> None:
        self.accepted: dict[str, int] = {}
        self._images = images
        self._url = url
        self._rng = random.Random(seed)
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _send(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as client:
            try:
                while True:
                    number = self._rng.randrange(len(self._images))
                    response = client.post("/v1/jobs?report=true", content=self._images[number])
                    if response.status_code == 202:
                        self.accepted[response.headers["location"]] = number
            except httpx.HTTPError:
                return


def test_every_accepted_job_ends_done_once_however_often_the_server_is_killed(
    start: Any, png: Image, samples: Samples, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    images = {number: png(24 + number, 32, seed=number) for number in range(8)}
    accepted: dict[str, int] = {}
    reported_done: dict[str, int] = {}
    for life in range(ROUNDS):
        server = start(jobs_folder=tmp_path, simulated_base_ms=5, max_batch=1).until_ready()
        for path, number in reported_done.items():  # what was said to be done is, with the right pixels
            response = server.client.get(f"{path}/result")
            assert response.status_code == 200
            np.testing.assert_array_equal(samples(response.content), samples(images[number]))
        senders = [Submitter(images, server.url, life * SENDERS + n) for n in range(SENDERS)]
        enough = wanted = rng.randint(1, MOST_JOBS_OF_A_LIFE)
        enough += len(accepted)
        known: dict[str, int] = {}
        while len(known) < enough:
            known = accepted | {path: sender.accepted[path] for sender in senders for path in list(sender.accepted)}
            for path in list(known)[-2 * wanted :]:
                if path not in reported_done and server.client.get(path).json()["state"] == "done":
                    reported_done[path] = known[path]
        time.sleep(rng.uniform(0, LONGEST_WAIT_S))
        server.process.kill()
        server.wait()
        for sender in senders:
            sender.join()
            accepted |= sender.accepted
    server = start(jobs_folder=tmp_path).until_ready()
    for path, number in accepted.items():
        server.until(lambda path=path: server.client.get(path).json()["state"] == "done")
        result = server.client.get(f"{path}/result")
        np.testing.assert_array_equal(samples(result.content), samples(images[number]))
    assert len(accepted) >= ROUNDS
    assert reported_done
    _assert_no_leftovers(server, accepted, tmp_path)


def _assert_no_leftovers(server: Any, accepted: dict[str, int], folder: Path) -> None:
    # A job may be stored whose 202 was lost on its way; it is done as well, so each file is a done job's result.
    done = int(server.metric('promptir_jobs{state="done"}'))
    assert done >= len(accepted)
    server.until(lambda: server.metric('promptir_jobs{state="done"}') == len(list((folder / "results").iterdir())))
    assert list((folder / "uploads").iterdir()) == []
    for state in ("queued", "running", "failed", "cancelled", "expired"):
        assert server.metric(f'promptir_jobs{{state="{state}"}}') == 0
    names = {path.name for path in (folder / "results").iterdir()}
    assert {path.rsplit("/", 1)[1] for path in accepted} <= names


def test_a_job_that_is_running_at_each_end_of_the_server_is_given_up(start: Any, png: Image, tmp_path: Path) -> None:
    settings = {"gate": tmp_path / "gate", "jobs_folder": tmp_path / "jobs"}
    server = start(**settings).until_ready()
    with server.holding():
        path = server.client.post("/v1/jobs", content=png(8, 8)).headers["location"]
        for _ in range(5):
            server.until(server.running)
            server.process.kill()
            server.wait()
            server = start(**settings).until_ready()
        server.until(lambda: server.client.get(path).json()["state"] == "failed")
    assert server.client.get(path).json()["problem"]["type"] == "urn:promptir:problem:job-interrupted"
