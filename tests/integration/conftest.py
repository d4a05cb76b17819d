"""Fixtures with real server processes and with images to send."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from client_keys import LINES, ORIGIN

from server.access.keys_file import read_keys

# For what takes a second on an idle machine: it is only waited for that long where something is wrong.
WAIT_S = 120.0
POLL_S = 0.02

Image = Callable[..., bytes]


class RunningServer:
    """Running `promptir serve` on a free port, with its address, log lines and exit code."""

    def __init__(self, process: subprocess.Popen[str], gate: Path | None = None) -> None:
        self.process = process
        self._gate = gate
        self.lines: list[dict[str, Any]] = []
        self._addresses: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.url = self._addresses.get(timeout=WAIT_S)
        except queue.Empty:
            process.kill()
            process.wait()
            raise
        self.client = httpx.Client(base_url=self.url, timeout=WAIT_S)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            record = json.loads(line) if line.startswith("{") else {"message": line, "level": "NOT JSON"}
            self.lines.append(record)
            if record["message"] == "listening":
                host = f"[{record['host']}]" if ":" in record["host"] else record["host"]
                self._addresses.put(f"http://{host}:{record['port']}")

    def until(self, condition: Callable[[], bool]) -> None:
        """Poll until the condition holds."""
        give_up = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < give_up, "it did not happen in time"
            time.sleep(POLL_S)

    def until_ready(self) -> "RunningServer":
        self.until(lambda: self.client.get("/readyz").status_code == 200)
        return self

    def metric(self, name: str) -> float:
        """Return the value of a series by its full name with labels; 0 if it does not exist yet."""
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Let no run of the device end in this block; only for a server that was started with a gate."""
        assert self._gate is not None
        self._gate.touch()
        try:
            yield
        finally:
            self._gate.unlink()

    def end_one(self) -> None:
        """End one of the runs that are held, and wait until it has ended."""
        assert self._gate is not None
        one = self._gate.with_name(f"{self._gate.name}.one")
        one.touch()
        self.until(lambda: not one.exists())

    def running(self) -> list[dict[str, Any]]:
        """Return the runs that the devices do now."""
        return [run for device in self.client.get("/v1/scheduler").json()["devices"] for run in device["running"]]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait for the end; returns the exit code after reading all log lines."""
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        return code

    def stop(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(WAIT_S)
        assert self.process.stderr is not None
        self.process.stderr.close()


Start = Callable[..., RunningServer]


def environment(**settings: object) -> dict[str, str]:
    """Return this process's environment with only the given settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")}
    return {**inherited, "OMP_NUM_THREADS": "1"} | {f"PROMPTIR_{name}".upper(): str(v) for name, v in settings.items()}


@contextmanager
def running_server(gate: Path | None = None, first: str | None = None, **settings: object) -> Iterator[RunningServer]:
    """Start a server; its runs go on while the file `gate` exists, if that is given (support/gated_serve.py).

    `first` is Python that runs in its process before.
    """
    settings = {"backend": "simulated", "port": 0} | settings
    if settings["backend"] == "simulated":
        settings = {"simulated_base_ms": 1, "simulated_ms_per_megapixel": 1} | settings
    command: list[str | Path] = ["-m", "server.cli", "serve"]
    if gate is not None:
        command = ["-m", "tests.support.gated_serve", gate]
    elif first is not None:
        command = ["-c", f"{first}; import sys; from server import cli; sys.exit(cli.main())", "serve"]
    process = subprocess.Popen(
        [sys.executable, *command],
        env=environment(**settings),
        stderr=subprocess.PIPE,
        text=True,
    )
    server = RunningServer(process, gate)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def session_start() -> Iterator[Start]:
    """Start a server with the given settings, not necessarily ready; it is stopped after the session."""
    with ExitStack() as servers:
        yield lambda **settings: servers.enter_context(running_server(**settings))


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a server with the given settings, not necessarily ready; it is stopped after the test."""
    with ExitStack() as servers:
        yield lambda **settings: servers.enter_context(running_server(**settings))


@pytest.fixture
def heeded() -> Iterator[None]:
    """Make servers heed SIGHUP though these tests run under nohup: what is ignored here is ignored by them too."""
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def server(session_start: Start) -> RunningServer:
    """Return a fast, ready server; it is shared, so tests may not stop it."""
    return session_start().until_ready()


@pytest.fixture
def png() -> Image:
    """Encode a PNG of noise: (height, width, channels) samples from a seed."""

    def encoded(height: int, width: int, channels: int = 3, seed: int = 0, dtype: type = np.uint8) -> bytes:
        top = np.iinfo(dtype).max
        samples = np.random.default_rng(seed).integers(0, top, (height, width, channels), dtype, endpoint=True)
        return cv2.imencode(".png", samples)[1].tobytes()

    return encoded


@pytest.fixture
def samples() -> Callable[[bytes], np.ndarray]:
    """Decode an image to its samples as stored."""
    return lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.fixture
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `promptir` with arguments and settings to its end."""

    def run(*arguments: object, **settings: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "server.cli", *map(str, arguments)],
            env=environment(**settings),
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def guarded(session_start: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a server that requires keys; it is shared, so tests may not stop it."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text(LINES)
    settings = {"keys_file": folder / "keys", "jobs_folder": folder / "jobs", "cors_origins": ORIGIN}
    return session_start(**settings).until_ready()


@pytest.fixture
def count_of(guarded: Any, tmp_path: Path) -> Callable[..., float]:
    """Return the value of a key's series, by the client's name."""
    (tmp_path / "keys").write_text(LINES)
    labels = read_keys(tmp_path / "keys").labels()

    def value(series: str, name: str, further: str = "") -> float:
        found: float = guarded.metric(f'promptir_key_{series}_total{{key="{labels[name]}"{further}}}')
        return found

    return value
