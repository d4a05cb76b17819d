"""Tests of the shutdown by signals, during slow uploads, slow reads and open streams."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from raw_http import begin_upload, connect, read_answer, received, upload_head

Image = Callable[..., bytes]
# Time beyond the drain: a second of lingering, and a slow machine. A server that hangs ends later, and not with 0.
SOON_S = 10.0
WAIT_S = 30.0
DRAIN_S = 0.5


def seconds_to_end(server: Any) -> float:
    began = time.monotonic()
    server.terminate()
    assert server.wait() == 0
    return time.monotonic() - began


def errors(server: Any) -> list[Any]:
    return [line for line in server.lines if line["level"] not in ("INFO", "WARNING", "DEBUG")]


@pytest.mark.parametrize(
    "head",
    [
        upload_head(100_000, "Content-Type: image/png"),
        upload_head(50_000_000, "Content-Type: image/png"),
        upload_head(100_000).replace(b"/restore", b"/v1/jobs"),
        upload_head(100_000, "Content-Type: application/json").replace(b"/restore", b"/v2/models/promptir/infer"),
        upload_head(100_000, "Content-Type: multipart/form-data; boundary=x"),
        upload_head(100_000, "Content-Encoding: gzip"),
    ],
    ids=["raw", "large", "job", "v2", "form", "gzip"],
)
def test_an_upload_that_does_not_come_in_time_is_503(head: bytes, start: Any, tmp_path: Path) -> None:
    server = start(drain_timeout_s=DRAIN_S, jobs_folder=tmp_path).until_ready()
    with connect(server.url) as connection:
        begin_upload(connection, head)
        assert seconds_to_end(server) < DRAIN_S + SOON_S
        status, _, document = read_answer(connection)
    assert status == 503
    assert "stopping" in str(document.get("detail") or document["error"])
    assert not errors(server)


def test_an_upload_that_goes_on_is_taken_while_the_drain_lasts(start: Any, png: Image) -> None:
    server = start(drain_timeout_s=20).until_ready()
    data = png(64, 64)
    with connect(server.url) as connection:
        begin_upload(connection, upload_head(len(data)))
        connection.sendall(data[:-10])
        server.terminate()
        server.until(lambda: any(line["message"] == "draining" for line in server.lines))
        time.sleep(1)  # some turns in which it could end too early
        connection.sendall(data[-10:])
        assert received(connection).startswith(b"HTTP/1.1 200 ")
    assert server.wait() == 0


def test_a_client_that_reads_nothing_holds_up_nobody(start: Any, png: Image) -> None:
    server = start(drain_timeout_s=DRAIN_S).until_ready()
    data = png(1400, 1400)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        connection.sendall(upload_head(len(data)) + data)
        server.until(lambda: any(line.get("outcome") == "restored" for line in server.lines))
        assert seconds_to_end(server) < SOON_S
    assert not errors(server)


def test_a_client_that_reads_slowly_gets_its_answer_to_the_end(start: Any, png: Image) -> None:
    server = start(drain_timeout_s=DRAIN_S).until_ready()
    data = png(1400, 1400)
    with socket.socket() as connection:
        connection.settimeout(30)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        connection.sendall(upload_head(len(data)) + data)
        server.until(lambda: any(line.get("outcome") == "restored" for line in server.lines))
        server.terminate()
        answer = b""
        while part := connection.recv(200_000):
            answer += part
            time.sleep(0.02)
    assert server.wait() == 0
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    assert len(body) == int(length[1])


def test_one_that_watches_the_health_over_grpc_is_let_go(start: Any) -> None:
    server = start(grpc_port=0).until_ready()
    server.until(lambda: any(line["message"] == "listening for gRPC" for line in server.lines))
    (port,) = (line["port"] for line in server.lines if line["message"] == "listening for gRPC")
    seen: list[bytes] = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
        watching = threading.Thread(target=lambda: seen.extend(watch(b"")))
        watching.start()
        server.until(lambda: bool(seen))
        assert seconds_to_end(server) < SOON_S
        watching.join(WAIT_S)
    assert seen == [b"\x08\x01", b"\x08\x02"]  # serving, then not


def test_one_that_watches_a_job_is_let_go(start: Any, png: Image, tmp_path: Path) -> None:
    server = start(jobs_folder=tmp_path, simulated_base_ms=1000, drain_timeout_s=DRAIN_S).until_ready()
    job = server.client.post("/v1/jobs?tile=64&overlap=0", content=png(256, 256)).json()["id"]
    with connect(server.url) as connection:
        connection.sendall(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        told = b""
        while b"\nevent: " not in told:
            told += received(connection)
        assert seconds_to_end(server) < DRAIN_S + SOON_S


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize(("name", "code"), [("SIGHUP", 129), ("SIGTERM", 143), ("SIGINT", 130)])
def test_every_signal_to_end_drains_and_a_second_one_ends_at_once(name: str, code: int, start: Any, png: Image) -> None:
    server = start(drain_timeout_s=30).until_ready()
    with connect(server.url) as connection:
        begin_upload(connection, upload_head(1000))
        server.process.send_signal(getattr(signal, name))
        server.until(lambda: server.client.get("/readyz").status_code == 503)
        server.until(lambda: any(line["message"] == "draining" and line["signal"] == name for line in server.lines))
        server.process.send_signal(getattr(signal, name))
        assert server.wait() == code


def test_under_nohup_the_end_of_a_terminal_means_nothing() -> None:
    ignoring = "trap '' HUP; exec \"$@\""
    process = subprocess.Popen(
        [
            "sh",
            "-c",
            ignoring,
            "sh",
            sys.executable,
            "-m",
            "server.cli",
            "serve",
            "--port",
            "0",
            "--backend",
            "simulated",
        ],
        env={name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process:
        assert any('"listening"' in line for line in process.stderr)
        time.sleep(1)
        process.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert process.poll() is None
        process.terminate()
        assert process.wait(WAIT_S) == 0


def test_a_signal_does_nothing_where_it_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    from server.cli.draining_server import DrainingServer

    class Untouched:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"a signal handler used {name}")

    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    server = DrainingServer.__new__(DrainingServer)
    server._signal, server._restorer, server._room = None, Untouched(), Untouched()  # type: ignore[assignment]
    server.handle_exit(signal.SIGTERM, None)
    assert not ended
    server.handle_exit(signal.SIGTERM, None)
    assert ended == [143]


def ended_by_sigterm(prelude: str) -> tuple[int, str, float]:
    """Run a server that `prelude` breaks, and stop it; returns exit code, output and seconds."""
    serving = "from server.cli import main; sys.exit(main(['serve', '--port', '0', '--backend', 'simulated']))"
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys, threading, time\n{prelude}\n{serving}"],
        env={name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process:
        assert any('"ready"' in line for line in process.stderr)
        began = time.monotonic()
        process.terminate()
        told = process.communicate(timeout=WAIT_S)[1]
        return process.returncode, told, time.monotonic() - began


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("server.restore.pipeline.Restorer.stop", "async def hang(*_): time.sleep(600)"),  # the loop itself is blocked
        ("server.restore.pipeline.Restorer.stop", "async def hang(*_): await asyncio.sleep(600)"),
        ("server.scheduling.execution.pool.WorkerPool.drain", "def hang(*_): time.sleep(600)"),
    ],
)
def test_what_never_ends_is_ended_and_told(method: str, body: str) -> None:
    module, kind, name = method.rsplit(".", 2)
    prelude = (
        f"import asyncio, {module}, server.cli.draining_server as draining\n{body}\n"
        f"setattr({module}.{kind}, {name!r}, hang)\ndraining.MAX_SHUTDOWN_S = 1.0\n"
    )
    code, told, seconds = ended_by_sigterm(prelude)
    assert code == 1
    assert "Timeout (" in told
    assert "Thread 0x" in told
    assert seconds < 1.0 + 5.0 + SOON_S


def test_a_thread_of_a_library_that_goes_on_holds_up_nothing() -> None:
    code, told, seconds = ended_by_sigterm("threading.Thread(target=time.sleep, args=(600,)).start()")
    assert code == 0
    assert '"stopped"' in told
    assert seconds < SOON_S


def test_a_run_that_nobody_waits_for_is_not_waited_for_long(start: Any, png: Image) -> None:
    server = start(simulated_ms_per_megapixel=20_000, drain_timeout_s=30, max_backlog_ms=60_000).until_ready()
    data = png(1000, 1000)
    with connect(server.url) as connection:
        connection.sendall(upload_head(len(data)) + data)
        server.until(lambda: any(each["running"] for each in server.client.get("/v1/scheduler").json()["devices"]))
    server.until(lambda: any(line.get("outcome") not in (None, "restored") for line in server.lines))
    assert seconds_to_end(server) < 5.0 + SOON_S
