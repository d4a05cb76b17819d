"""Tests of `promptir serve --http-processes`: several processes on one port, before one that runs the devices."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

Image = Callable[..., bytes]
Command = Callable[..., Any]
SEGMENTS = Path("/dev/shm")  # noqa: S108 - only looked at

SENT = 16
WAIT_S = 120.0
POLL_S = 0.02


def children(server: int) -> list[int]:
    """Return the ids of the HTTP processes of the server with this id."""
    lines = {int(file.parent.name): file for file in Path("/proc").glob("[0-9]*/cmdline")}
    found = []
    for pid, line in lines.items():
        try:
            parent = int((line.parent / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == server and b"spawn_main" in line.read_bytes():
                found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def all_ready(server: Any, count: int = 2) -> Any:
    server.until(lambda: [line["message"] for line in server.lines].count("ready") == count)
    return server


def restored(url: str, data: bytes) -> httpx.Response:
    """Send an image over a connection of its own, which any of the processes may get."""
    return httpx.post(f"{url}/restore", content=data, timeout=120)


def answers(server: Any) -> dict[str, float]:
    """Return the number of requests that each process has answered."""
    found: dict[str, float] = {}
    for line in httpx.get(f"{server.url}/metrics").text.splitlines():
        if line.startswith("promptir_batch_size_count{"):
            process = line.partition('process="')[2].partition('"')[0]
            found[process] = found.get(process, 0.0) + float(line.rsplit(" ", 1)[1])
    return found


def test_each_process_answers_with_the_restored_picture(
    start: Any, png: Image, samples: Callable[[bytes], np.ndarray]
) -> None:
    server = all_ready(start(http_processes=2))
    pictures = [png(40, 24, seed=seed) for seed in range(24)]
    with ThreadPoolExecutor(8) as senders:
        responses = list(senders.map(lambda data: restored(server.url, data), pictures))
    assert {response.status_code for response in responses} == {200}
    for sent, response in zip(pictures, responses, strict=True):
        assert np.array_equal(samples(sent), samples(response.content))  # the simulated device returns its input
    assert set(answers(server)) == {"0", "1"}
    assert all(count > 0 for count in answers(server).values())


def test_the_metrics_are_of_all_processes_and_of_the_devices(start: Any) -> None:
    server = all_ready(start(http_processes=2))
    plain = httpx.get(f"{server.url}/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    for process in ("0", "1", "devices"):
        assert f'process_resident_memory_bytes{{process="{process}"}}' in plain.text
    with_exemplars = httpx.get(f"{server.url}/metrics", headers={"Accept": "application/openmetrics-text"})
    assert with_exemplars.headers["content-type"].startswith("application/openmetrics-text")
    assert with_exemplars.text.endswith("# EOF\n")


def test_a_port_of_their_own_has_the_metrics_of_all_processes(start: Any) -> None:
    server = all_ready(start(http_processes=2, metrics_port=0))
    port = next(line["port"] for line in server.lines if line["message"] == "metrics listening")
    page = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert 'promptir_refusals_total{process="0",reason="queue-full"}' in page
    assert 'promptir_refusals_total{process="1",reason="queue-full"}' in page
    assert httpx.get(f"{server.url}/metrics").status_code == 404


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_drains_all_processes(signal_name: str, start: Any, png: Image, tmp_path: Path) -> None:
    server = all_ready(start(gate=tmp_path / "gate", http_processes=2, max_batch=1, drain_timeout_s=60))
    with ThreadPoolExecutor(SENT) as senders:
        with server.holding():
            accepted = [senders.submit(restored, server.url, png(8, 8, seed=seed)) for seed in range(SENT)]
            server.until(lambda: _accepted(server) == SENT)
            server.process.send_signal(getattr(signal, signal_name))
            server.until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        assert [response.result().status_code for response in accepted] == [200] * SENT
    assert server.wait() == 0
    assert server.lines[-1]["message"] == "stopped"
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)
    assert not [*SEGMENTS.glob(f"promptir-{server.process.pid}-*")]


def _accepted(server: Any) -> int:
    """Return how many images wait or run, one at a time in each process that has some that wait."""
    page = httpx.get(f"{server.url}/metrics").text.splitlines()
    waiting = [float(line.rsplit(" ", 1)[1]) for line in page if line.startswith("promptir_queue_tiles{")]
    return round(sum(count + 1 for count in waiting if count))


def test_a_process_that_is_killed_is_started_again_and_leaves_nothing(start: Any, png: Image) -> None:
    server = all_ready(start(http_processes=2))
    victim, other = children(server.process.pid)
    for seed in range(8):
        assert restored(server.url, png(40, 24, seed=seed)).status_code == 200
    os.kill(victim, signal.SIGKILL)
    server.until(
        lambda: (
            other in children(server.process.pid)
            and len(children(server.process.pid)) == 2
            and victim not in children(server.process.pid)
        )
    )
    all_ready(server, 3)
    lost = [line for line in server.lines if line["message"] == "an HTTP process was lost; it is started again"]
    assert [line["exit_code"] for line in lost] == [-9]
    assert not [*SEGMENTS.glob(f"promptir-{victim}-*")]
    with ThreadPoolExecutor(8) as senders:
        responses = list(senders.map(lambda seed: restored(server.url, png(40, 24, seed=seed)), range(16)))
    assert {response.status_code for response in responses} == {200}


def test_a_mistake_in_the_keys_file_keeps_only_a_restarted_process_from_serving(start: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# no keys\n")
    server = all_ready(start(http_processes=2, keys_file=keys))
    keys.write_text("a mistake\n")
    os.kill(children(server.process.pid)[0], signal.SIGKILL)
    server.until(lambda: any(str(keys) in str(line.get("reason")) for line in server.lines))
    assert httpx.get(f"{server.url}/v1/health/live").status_code == 200
    keys.write_text("# no keys\n")
    all_ready(server, 3)
    server.terminate()
    assert server.wait() == 0


def test_a_process_that_hangs_is_killed_and_started_again(start: Any) -> None:
    impatient = "from server.cli.http_processes import parent; parent.HUNG_S = 8.0"
    server = all_ready(start(first=impatient, http_processes=2))
    victim = children(server.process.pid)[0]
    os.kill(victim, signal.SIGSTOP)
    all_ready(server, 3)
    assert victim not in children(server.process.pid)
    assert "an HTTP process hangs; it is killed" in [line["message"] for line in server.lines]
    server.terminate()
    assert server.wait() == 0


def test_the_processes_end_with_the_process_of_the_devices(start: Any) -> None:
    server = all_ready(start(http_processes=2))
    pids = children(server.process.pid)
    server.process.kill()
    server.until(lambda: not any(Path(f"/proc/{pid}/status").exists() and _runs(pid) for pid in pids))


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_backend_that_cannot_start_is_reported_once_and_ends_the_server(command: Command, tmp_path: Path) -> None:
    ended = command("serve", "--http-processes", "3", "--artifact", str(tmp_path / "nowhere"), "--port", "0")
    assert ended.returncode == 1
    sentences = [line for line in ended.stderr.splitlines() if line.startswith("promptir:")]
    assert len(sentences) == 1
    assert "nowhere" in sentences[0]
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_is_refused_before_anything_starts(command: Command, start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = command("serve", "--http-processes", "2", "--port", port)
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}, which is in use" in ended.stderr
    first = all_ready(start(http_processes=2))  # whose sockets others may share
    port = first.url.rpartition(":")[2]
    assert "which is in use" in command("serve", "--http-processes", "2", "--port", port).stderr


def test_jobs_want_one_http_process(command: Command, tmp_path: Path) -> None:
    ended = command("serve", "--http-processes", "2", "--jobs-folder", str(tmp_path))
    assert ended.returncode == 1
    assert "PROMPTIR_HTTP_PROCESSES=2: with PROMPTIR_JOBS_FOLDER there is one HTTP process" in ended.stderr


def test_grpc_calls_reach_the_processes_on_one_port(start: Any) -> None:
    grpc = pytest.importorskip("grpc", reason="calls with the library (extra `grpc`)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = all_ready(start(http_processes=2, grpc_port=port))
    for _ in range(4):  # each with a connection of its own
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            assert live(b"", timeout=60) == b"\x08\x01"
    server.terminate()
    assert server.wait() == 0


def test_a_second_signal_ends_everything_at_once(start: Any, png: Image, tmp_path: Path) -> None:
    server = all_ready(start(gate=tmp_path / "gate", http_processes=2, max_batch=1, drain_timeout_s=60))
    pids = children(server.process.pid)
    with ThreadPoolExecutor(SENT) as senders, server.holding():
        sent = [senders.submit(restored, server.url, png(8, 8, seed=seed)) for seed in range(SENT)]
        server.until(lambda: _accepted(server) == SENT)
        server.terminate()
        server.until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503)
        server.terminate()
        assert server.wait() == 128 + signal.SIGTERM
        assert all(isinstance(one.exception(), httpx.TransportError) for one in sent)
    server.until(lambda: not any(_runs(pid) for pid in pids))
    assert {line["level"] for line in server.lines} == {"INFO"}  # no segment is left for Python to warn of


def test_ctrl_c_while_the_processes_start_is_for_the_parent_alone() -> None:
    command = [sys.executable, "-m", "server.cli", "serve", "--http-processes", "2"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")}
    settings = inherited | {"PROMPTIR_BACKEND": "simulated", "PROMPTIR_PORT": "0"}
    # Its group gets the signal, as that of a terminal does.
    with subprocess.Popen(command, env=settings, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while len(children(process.pid)) < 2:
            assert process.poll() is None
            time.sleep(POLL_S)
        os.killpg(process.pid, signal.SIGINT)
        _, printed = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert [json.loads(line)["message"] for line in printed.splitlines()] == ["draining", "stopped"]


def test_a_process_that_hangs_holds_up_neither_the_metrics_nor_the_others(start: Any, png: Image) -> None:
    server = all_ready(start(http_processes=2))
    hanging = children(server.process.pid)[0]
    os.kill(hanging, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(2 * SENT) as senders:
            scrapes = [senders.submit(httpx.get, f"{server.url}/metrics", timeout=WAIT_S) for _ in range(SENT)]
            images = [senders.submit(restored, server.url, png(8, 8, seed=seed)) for seed in range(SENT)]
            for sent in (scrapes, images):
                server.until(lambda sent=sent: any(one.done() for one in sent))
            answered = [one.result().status_code for one in scrapes + images if one.done()]
            os.kill(hanging, signal.SIGCONT)
            assert set(answered) == {200}
            assert {one.result().status_code for one in scrapes + images} == {200}
    finally:
        os.kill(hanging, signal.SIGCONT)


def test_nothing_is_left_in_the_temporary_folder(start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    server = all_ready(start(http_processes=2))
    assert len([*tmp_path.iterdir()]) == 1
    server.terminate()
    assert server.wait() == 0
    assert not [*tmp_path.iterdir()]


def test_processes_that_serve_are_not_started_by_an_import() -> None:
    code = "import server.cli.http_processes, multiprocessing; print(len(multiprocessing.active_children()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
