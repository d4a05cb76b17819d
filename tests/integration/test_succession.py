"""A better artifact that appears while a real server is under load, and is served without losing a request."""

import itertools
import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from models.artifact import DEFAULT_ARTIFACT, MANIFEST_FILE

Image = Callable[..., bytes]
CLIENTS = 3
WAIT_S = 60.0


def appear(folder: Path, **changed: object) -> None:
    """The shipped artifact under another name, there as a whole or not at all, as the export leaves it."""
    staging = folder.with_name("staging")
    shutil.copytree(DEFAULT_ARTIFACT, staging)
    manifest = json.loads((staging / MANIFEST_FILE).read_text()) | changed
    (staging / MANIFEST_FILE).write_text(json.dumps(manifest))
    staging.rename(folder)


def info(name: str) -> str:
    facts = {
        "artifact": name,
        "backend": "onnx",
        "device": "cpu",
        "hardware": "cpu",
        "model": "promptnaf",
        "model_hash": json.loads((DEFAULT_ARTIFACT / MANIFEST_FILE).read_text())["sha256"],
        "precision": "fp32",
    }
    return "promptir_backend_info{" + ",".join(f'{label}="{value}"' for label, value in facts.items()) + "}"


def test_a_server_under_load_goes_on_with_a_better_artifact_and_loses_nothing(
    start: Any, png: Image, tmp_path: Path
) -> None:
    folder = tmp_path / "better"
    server = start(backend="onnx", successor=folder, max_backlog_ms=1e6).until_ready()
    seeds, stopping = itertools.count(), threading.Event()
    answers: list[int] = []
    readiness: list[int] = []

    def client() -> None:
        with httpx.Client(base_url=server.url, timeout=WAIT_S) as http:
            while not stopping.is_set():
                answers.append(http.post("/restore", content=png(32, 24, seed=next(seeds))).status_code)
                readiness.append(http.get("/readyz").status_code)

    with ThreadPoolExecutor(CLIENTS) as clients:
        running = [clients.submit(client) for _ in range(CLIENTS)]
        try:
            server.until(lambda: len(answers) >= 2 * CLIENTS)
            assert server.client.get("/").json()["model"]["artifact"] == "promptnaf"
            assert server.metric(info("promptnaf")) == 1
            appear(folder, name="better")
            server.until(lambda: server.client.get("/").json()["model"]["artifact"] == "better")
            before = len(answers)
            server.until(lambda: len(answers) >= before + 3 * CLIENTS)
        finally:
            stopping.set()
        for one in running:
            one.result()
    assert set(answers) == {200}
    assert set(readiness) == {200}
    assert server.metric(info("better")) == 1
    assert server.metric(info("promptnaf")) == 0
    assert server.metric('promptir_artifact_swaps_total{result="done"}') == 1
    assert server.metric('promptir_requests_total{outcome="restored",status="200"}') == len(answers)
    assert server.metric('promptir_device_rebuilds_total{device="cpu"}') == 0
    server.terminate()
    assert server.wait() == 0


def test_an_artifact_that_must_not_be_served_is_refused_and_the_server_goes_on(
    start: Any, png: Image, tmp_path: Path
) -> None:
    folder = tmp_path / "better"
    appear(folder, weights_sha256="0" * 64)
    server = start(backend="onnx", successor=folder).until_ready()
    server.until(lambda: server.metric('promptir_artifact_swaps_total{result="failed"}') >= 1)
    assert server.client.post("/restore", content=png(32, 24)).status_code == 200
    assert server.client.get("/").json()["model"]["artifact"] == "promptnaf"
    (line, *_) = (line for line in server.lines if line["message"] == "a better artifact is not served")
    assert "weights that are served" in line["reason"]
