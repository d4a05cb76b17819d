"""Tests from start-up to the end of the drain."""

import json
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from raw_http import connect, upload_head

Image = Callable[..., bytes]
Command = Callable[..., Any]


def test_it_is_alive_at_once_and_ready_only_after_the_warm_up(start: Any, png: Image) -> None:
    server = start(simulated_base_ms=1000)
    assert server.client.get("/healthz").json() == {"status": "alive"}
    readiness = server.client.get("/readyz")
    assert (readiness.status_code, readiness.json()) == (503, {"status": "starting"})
    assert server.client.get("/").json()["model"] is None
    refusal = server.client.post("/restore", content=png(8, 8))
    assert refusal.status_code == 503
    assert refusal.headers["content-type"] == "application/problem+json"
    assert refusal.json()["type"] == "urn:promptir:problem:not-ready"
    server.until_ready()
    assert server.client.get("/readyz").json() == {"status": "ready"}
    assert server.client.post("/restore", content=png(8, 8)).status_code == 200


def send(server: Any, data: bytes) -> httpx.Response:
    response: httpx.Response = server.client.post("/restore", content=data)
    return response


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_a_signal_drains_and_the_exit_code_is_zero(signal_name: str, start: Any, png: Image, tmp_path: Path) -> None:
    server = start(gate=tmp_path / "gate", max_batch=1, drain_timeout_s=60).until_ready()
    with ThreadPoolExecutor(2) as senders:
        with server.holding():
            accepted = [senders.submit(send, server, png(8, 8, seed=seed)) for seed in range(2)]
            server.until(lambda: server.metric("promptir_queue_tiles") == 1)  # one runs, one waits
            server.process.send_signal(getattr(signal, signal_name))
            server.until(lambda: server.client.get("/readyz").status_code == 503)
            assert server.client.get("/readyz").json() == {"status": "draining"}
            refusal = send(server, png(8, 8))
            assert (refusal.status_code, refusal.json()["type"]) == (503, "urn:promptir:problem:draining")
        assert [response.result().status_code for response in accepted] == [200, 200]
    assert server.wait() == 0
    assert server.lines[-1]["message"] == "stopped"
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_the_end_does_not_wait_for_what_a_codec_still_makes(start: Any, png: Image) -> None:
    server = start().until_ready()
    data = png(2900, 2900)
    with connect(server.url) as connection:
        head = f"POST /restore?effort=small&tile=1024 HTTP/1.1\r\nHost: here\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data)
        # All its tiles have run; to write the photo takes seconds.
        server.until(lambda: server.metric('promptir_batch_size_sum{model="identity"}') >= 9)
    server.terminate()
    began = time.monotonic()
    assert server.wait() == 0
    assert time.monotonic() - began < 10  # a server that hangs takes 12, and does not end with 0
    assert server.lines[-1]["message"] == "stopped"


def test_an_upload_that_is_still_arriving_at_the_signal_is_accepted_work(start: Any, png: Image) -> None:
    server = start().until_ready()
    data = png(64, 64)
    with connect(server.url) as connection:
        connection.sendall(upload_head(len(data), "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # sent when the route starts reading
        server.terminate()
        server.until(lambda: server.client.get("/readyz").status_code == 503)
        connection.sendall(data)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    assert server.wait() == 0


def test_work_that_outlasts_the_drain_is_answered_and_not_dropped(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(gate=tmp_path / "gate", max_batch=1, drain_timeout_s=0.3).until_ready()
    with ThreadPoolExecutor(2) as senders, server.holding():
        accepted = [senders.submit(send, server, png(8, 8, seed=seed)) for seed in range(2)]
        server.until(lambda: server.metric("promptir_queue_tiles") == 1)
        server.terminate()
        types = sorted(response.result().json()["type"].rsplit(":", 1)[1] for response in accepted)
    assert types == ["backend-lost", "draining"]
    assert server.wait() == 0


@pytest.mark.parametrize(("signal_name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_second_signal_ends_the_process_at_once(
    signal_name: str, code: int, start: Any, png: Image, tmp_path: Path
) -> None:
    server = start(gate=tmp_path / "gate", max_batch=1, drain_timeout_s=60).until_ready()
    with ThreadPoolExecutor(2) as senders, server.holding():
        accepted = [senders.submit(send, server, png(8, 8, seed=seed)) for seed in range(2)]
        server.until(lambda: server.metric("promptir_queue_tiles") == 1)
        server.process.send_signal(getattr(signal, signal_name))
        server.until(lambda: server.client.get("/readyz").status_code == 503)
        server.process.send_signal(getattr(signal, signal_name))
        assert server.wait() == code
        assert isinstance(accepted[1].exception(), httpx.HTTPError)
    assert not [line for line in server.lines if line["level"] not in ("INFO", "WARNING")]


def test_several_devices_serve_and_drain(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(gate=tmp_path / "gate", devices="sim:0,sim:1", drain_timeout_s=60).until_ready()
    ready = 'promptir_device_condition{device="sim:%d",promptir_device_condition="ready"}'
    server.until(lambda: all(server.metric(ready % number) == 1 for number in range(2)))
    with ThreadPoolExecutor(6) as senders:
        with server.holding():
            accepted = [senders.submit(send, server, png(8, 8 * n)) for n in range(1, 7)]
            server.until(lambda: server.metric("promptir_queue_tiles") == 4)  # two run, and all six were admitted
            server.terminate()
        assert [response.result().status_code for response in accepted] == [200] * 6
    assert server.wait() == 0


def test_an_idle_server_stops_even_with_open_connections(start: Any) -> None:
    server = start().until_ready()
    server.client.get("/healthz")  # leaves a connection open for the next request
    server.terminate()
    assert server.wait() == 0


def assert_one_sentence(finished: Any, *words: str) -> None:
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    sentences = [line for line in finished.stderr.splitlines() if not line.startswith("{")]
    assert len(sentences) == 1, finished.stderr
    assert sentences[0].startswith("promptir: ")
    for word in words:
        assert word in sentences[0]
    for line in finished.stderr.splitlines():
        if line.startswith("{"):
            assert json.loads(line)["level"] == "INFO"


def test_a_port_that_is_taken_is_said_in_one_sentence(server: Any, command: Command) -> None:
    port = server.url.rsplit(":", 1)[1]
    finished = command("serve", "--backend", "simulated", "--port", port)
    assert_one_sentence(finished, "cannot listen", port, "in use", "--port")


def test_no_command_at_all_lists_the_commands(command: Command) -> None:
    finished = command()
    assert finished.returncode == 2
    for name in ("serve", "restore", "config", "key", "bench"):
        assert f"    {name} " in finished.stderr


def test_a_bad_setting_is_said_in_one_sentence(command: Command) -> None:
    assert_one_sentence(command("serve", "--max-batch", "many"), "PROMPTIR_MAX_BATCH", "many")
    assert_one_sentence(command("serve", max_bach="4"), "PROMPTIR_MAX_BACH", "PROMPTIR_MAX_BATCH")


def test_a_missing_artifact_is_said_in_one_sentence(command: Command, tmp_path: Path) -> None:
    finished = command("serve", "--artifact", tmp_path / "nothing", "--port", 0)
    assert_one_sentence(finished, "nothing")


def test_a_device_that_the_backend_cannot_use_is_said_in_one_sentence(command: Command) -> None:
    assert_one_sentence(command("serve", "--devices", "gpu7"), "PROMPTIR_DEVICES=gpu7", "cuda:N")


def test_a_device_that_is_not_there_is_named_and_no_smaller_pool_serves(command: Command) -> None:
    finished = command("serve", "--port", 0, "--devices", "cpu,cuda:7", "--onnx-providers", "cuda,cpu")
    assert_one_sentence(finished, "cuda:7", "provider cuda")


def test_a_flag_overrides_the_environment(command: Command) -> None:
    finished = command("serve", "--host", "no such host", backend="simulated", host="127.0.0.1")
    assert_one_sentence(finished, "no such host")


def test_help_lists_every_setting_with_its_reason(command: Command) -> None:
    finished = command("serve", "--help")
    assert finished.returncode == 0
    for flag in ("--host", "--port", "--backend", "--artifact", "--max-batch", "--log-level", "--max-image-pixels"):
        assert flag in finished.stdout
