"""Servers under measurement, each in its own process."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
MAX_BATCH = 8
READY_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 45.0
POLL_S = 0.05
READY = "/readyz"
SERVE = ["-m", "server.cli", "serve", "--port"]


@dataclass(frozen=True)
class SimulatedDevice:
    """Device whose batch of n images takes base_ms + ms_per_megapixel * n * megapixels, at most MAX_BATCH images."""

    base_ms: float
    ms_per_megapixel: float

    def run_ms(self, images: int, pixels: int) -> float:
        """Return the milliseconds of a batch of `images` with `pixels` each."""
        return self.base_ms + self.ms_per_megapixel * images * pixels / 1e6


@dataclass(frozen=True)
class Peer:
    """Running server."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    run_log: Path | None = None

    def cpu_s(self) -> float:
        """Return the CPU time of the process and its descendants so far, all threads."""
        return sum(map(_cpu_s, _family(self.process.pid)))

    def children(self) -> list[int]:
        """Return the process ids of its children, such as codec processes."""
        return _children(self.process.pid)

    def resident_mb(self) -> float:
        """Return the resident memory of the process, in 10**6 bytes."""
        return _resident_mb(self.process.pid)

    def family_resident_mb(self) -> float:
        """Return the sum of the resident memory of the process and its descendants, in 10**6 bytes."""
        return sum(map(_resident_mb, _family(self.process.pid)))

    def terminate(self) -> None:
        """Send SIGTERM and return immediately."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Send SIGTERM, wait for the exit code and return it; kill the process after a timeout."""
        self.terminate()
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


@dataclass(frozen=True)
class Use:
    """CPU time up to a moment of time.perf_counter: of a server, of this process and of the whole machine."""

    read_at: float
    peer_s: float
    client_s: float
    machine_s: float


@dataclass
class ProcessProbe:
    """Measures CPU time and memory of a server over the window, and the CPU time of other processes."""

    peer: Peer
    began: Use | None = None
    ended: Use | None = None
    resident_mb: float = 0.0

    async def begin(self) -> None:
        self.began = self._use()

    async def end(self) -> None:
        self.ended = self._use()
        self.resident_mb = self.peer.resident_mb()

    def window(self) -> tuple[Use, Use]:
        """Return the readings at both ends; raises RuntimeError if the window has not ended."""
        if self.began is None or self.ended is None:
            raise RuntimeError("the window has not ended")
        return self.began, self.ended

    def others_share(self) -> float:
        """Return the share of all cores used by neither the server nor this process."""
        began, ended = self.window()
        ours_s = ended.peer_s - began.peer_s + ended.client_s - began.client_s
        cores_s = (ended.read_at - began.read_at) * (os.cpu_count() or 1)
        return max(0.0, ended.machine_s - began.machine_s - ours_s) / cores_s

    def _use(self) -> Use:
        return Use(time.perf_counter(), self.peer.cpu_s(), time.process_time(), _machine_busy_s())


@contextmanager
def promptir(
    device: SimulatedDevice,
    run_log: Path | None = None,
    *,
    root: Path = ROOT,
    python: str | Path = sys.executable,
    **settings: object,
) -> Iterator[Peer]:
    """Start the server of a checkout, this one by default, with the simulated device; `settings` replace defaults."""
    given = {
        "backend": "simulated",
        "simulated_base_ms": device.base_ms,
        "simulated_ms_per_megapixel": device.ms_per_megapixel,
        **({} if run_log is None else {"simulated_run_log": run_log}),
        "max_batch": MAX_BATCH,
        **settings,
    }
    with _running("ours", SERVE, [], environment(given), run_log, root, python) as peer:
        yield peer


@contextmanager
def reference(device: SimulatedDevice) -> Iterator[Peer]:
    """Start the reference batcher with the same device."""
    cost = ["--base-ms", str(device.base_ms), "--ms-per-megapixel", str(device.ms_per_megapixel)]
    script = [str(FOLDER / "reference_batcher.py"), "--port"]
    with _running("reference", script, [*cost, "--max-batch", str(MAX_BATCH)], dict(os.environ)) as peer:
        yield peer


@contextmanager
def echo() -> Iterator[Peer]:
    """Start a server that returns each request's body."""
    with _running("echo", [str(FOLDER / "echo_server.py")], [], dict(os.environ)) as peer:
        yield peer


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Return this process's environment, with the server's variables replaced by `settings`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")}
    return inherited | {f"PROMPTIR_{name.upper()}": str(value) for name, value in settings.items()}


def run_and_wait_s(pids: Iterable[int]) -> tuple[float, float]:
    """Return for how long all threads of processes ran, and for how long they waited for a core (Linux)."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    times = [(task / "schedstat").read_text().split() for task in tasks]
    return sum(int(time[0]) for time in times) / 1e9, sum(int(time[1]) for time in times) / 1e9


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in _children(pid):
        yield from _family(child)


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5): utime and stime


def _machine_busy_s() -> float:
    # proc(5): user nice system idle iowait irq softirq steal; time stolen by the host counts as used by others.
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _running(
    name: str,
    before_port: list[str],
    after_port: list[str],
    environment: dict[str, str],
    run_log: Path | None = None,
    root: Path = ROOT,
    python: str | Path = sys.executable,
) -> Iterator[Peer]:
    port = free_port()
    command = [str(python), *before_port, str(port), *after_port]
    with _process(name, command, {**environment, "PYTHONPATH": str(root)}, port, root=root, run_log=run_log) as peer:
        yield peer


@contextmanager
def launched(
    name: str, command: list[str], environment: Mapping[str, str], *, port_name: str, ready: str
) -> Iterator[Peer]:
    """Run a command that reads its port from the variable `port_name`; the path `ready` answers 200 once it serves."""
    port = free_port()
    with _process(name, command, {**environment, port_name: str(port)}, port, ready=ready) as peer:
        yield peer


@contextmanager
def _process(
    name: str,
    command: list[str],
    environment: Mapping[str, str],
    port: int,
    *,
    root: Path = ROOT,
    run_log: Path | None = None,
    ready: str = READY,
) -> Iterator[Peer]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, cwd=root, stdout=quiet, stderr=quiet)
    peer = Peer(name, f"http://127.0.0.1:{port}", process, run_log)
    try:
        wait_until_ready(peer, ready)
        yield peer
    finally:
        if process.poll() is None:
            descendants = list(_family(process.pid))[1:]
            peer.stop()
            for left in descendants:  # a framework may leave its workers behind
                with suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(peer: Peer, path: str = READY) -> None:
    """Poll a path of the server; raises RuntimeError if the process ends or is not ready within READY_TIMEOUT_S."""
    give_up = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < give_up and peer.process.poll() is None:
        try:
            with urllib.request.urlopen(f"{peer.url}{path}", timeout=1) as answer:  # noqa: S310 - an address of ours
                if answer.status == 200:
                    return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            pass
        time.sleep(POLL_S)
    raise RuntimeError(f"{peer.name} was not ready after {READY_TIMEOUT_S:.0f} s, or ended before")
