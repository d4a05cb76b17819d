"""Repeated SIGTERM shutdowns of a traced server, with slow, dead or absent trace collectors.

`python loadtests/endings.py --count 200 --parallel 2` prints the shutdown times and exits with 1 if any shutdown had a
non-zero exit code or took longer than `LONGEST_S`. It prints the log of such a server, including its threads.
"""

import argparse
import itertools
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from peers import ROOT, SERVE, Peer, environment, free_port, wait_until_ready
from PIL import Image

LONGEST_S = 8.0
"""Unsent traces have 3 s to be flushed; the rest allows for a busy machine."""
KILL_S = 60.0
PHOTOS = 3
LATEST_S = 0.5
"""The signal arrives within this time after the last response, possibly while spans are being sent."""
SENT_EVERY_MS = 100
COLLECTORS = ("answers", "slow", "silent", "busy", "dies", "gone")
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_BUSY = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
_SLOW_BYTE_S = 0.2
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


@dataclass(frozen=True, slots=True)
class Ending:
    """Result of one shutdown; `code` is None if the server had to be killed."""

    collector: str
    seconds: float
    code: int | None
    log: str

    @property
    def is_sound(self) -> bool:
        return self.code == 0 and self.seconds <= LONGEST_S


class Collector:
    """Trace collector that receives data over TCP and responds according to its kind."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._over = threading.Event()
        self._connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        if kind == "gone":
            self._listener.close()
        else:
            threading.Thread(target=self._accept, daemon=True).start()

    def die(self) -> None:
        """Stop, resetting all connections."""
        self._over.set()
        self._listener.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self._connections.append(connection)
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError):
            if self._kind == "slow":
                for byte in itertools.cycle(_OK[:-2] + b"X: y\r\n"):
                    connection.sendall(bytes([byte]))
                    if self._over.wait(_SLOW_BYTE_S):
                        return
            while self._kind != "silent" and connection.recv(65536):  # the spans of three photos fit into one read
                connection.sendall(_BUSY if self._kind == "busy" else _OK)


@contextmanager
def serving(collector: Collector, log: Path) -> Iterator[Peer]:
    """Run a traced server with the simulated device."""
    port = free_port()
    traced = environment({"backend": "simulated", "tracing": "true"}) | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": str(SENT_EVERY_MS),
        "PYTHONPATH": str(ROOT),
    }
    with log.open("wb") as written:
        process = subprocess.Popen([sys.executable, *SERVE, str(port)], env=traced, cwd=ROOT, stderr=written)
    peer = Peer("traced", f"http://127.0.0.1:{port}", process)
    try:
        wait_until_ready(peer)
        yield peer
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def end_one(number: int) -> Ending:
    """Start a server, restore some photos, shut it down."""
    kind = COLLECTORS[number % len(COLLECTORS)]
    rng = np.random.default_rng(number)
    collector = Collector(kind)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with serving(collector, log) as peer:
            for _ in range(PHOTOS):
                _restore(peer.url, rng)
            time.sleep(random.Random(number).uniform(0, LATEST_S))
            began = time.monotonic()
            peer.process.send_signal(signal.SIGTERM)
            if kind == "dies":
                collector.die()
            code: int | None = None
            with suppress(subprocess.TimeoutExpired):
                code = peer.process.wait(KILL_S)
            seconds = time.monotonic() - began
        collector.die()
        return Ending(kind, seconds, code, log.read_text(errors="replace"))


def _restore(url: str, rng: np.random.Generator) -> None:
    file = BytesIO()
    Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(file, "PNG")
    request = urllib.request.Request(f"{url}/restore", file.getvalue())  # noqa: S310 - an address of ours
    urllib.request.urlopen(request, timeout=KILL_S).read()  # noqa: S310


def main() -> int:
    """Repeat shutdowns and print their durations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--parallel", type=int, default=1, help="number of servers at a time")
    arguments = parser.parse_args()
    with ThreadPoolExecutor(arguments.parallel) as pool:
        endings = []
        for number, ending in enumerate(pool.map(end_one, range(arguments.count)), 1):
            endings.append(ending)
            if not ending.is_sound:
                print(f"{number}: {ending.collector}, {ending.seconds:.2f} s, exit code {ending.code}\n{ending.log}")
    for kind in COLLECTORS:
        times = sorted(ending.seconds for ending in endings if ending.collector == kind)
        if times:
            durations = f"shortest {times[0]:.2f} s, median {statistics.median(times):.2f} s, longest {times[-1]:.2f} s"
            print(f"{kind:8} {len(times):4} shutdowns: {durations}")
    unsound = sum(not ending.is_sound for ending in endings)
    print(f"{len(endings)} shutdowns, {unsound} with a non-zero exit code or longer than {LONGEST_S:g} s")
    return 1 if unsound else 0


if __name__ == "__main__":
    sys.exit(main())
