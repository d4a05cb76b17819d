"""Server under the chaos test: one port, several restarts, injected faults."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from peers import FOLDER, ROOT, STOP_TIMEOUT_S, Peer, free_port, wait_until_ready


@dataclass
class Subject:
    """Runs `promptir serve` with a simulated device; `fault` and `share` are passed to the faulty server."""

    folder: Path
    fault: str = "none"
    share: float = 0.0
    """Fraction of runs with the fault."""
    flags: tuple[str, ...] = ()
    jobs: Path | None = None
    http_processes: int = 1
    """With several of them it stores no jobs."""
    port: int = field(default_factory=free_port)
    peer: Peer | None = None

    @property
    def url(self) -> str:
        """URL of the server, the same after each restart."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def faults(self) -> int:
        """Number of device faults so far."""
        log = self.folder / "faults.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    async def start(self) -> None:
        """Start the server and wait until it is ready."""
        jobs = self.jobs or self.folder / "jobs"
        serve = ["--port", str(self.port), "--backend", "simulated", "--http-processes", str(self.http_processes)]
        serve += [*(["--jobs-folder", str(jobs)] if self.http_processes == 1 else []), *self.flags]
        faults = ["--clock", str(self._clock), self.fault, str(self.share), str(self.folder / "faults.log")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")}
        environment["PYTHONPATH"] = str(ROOT)
        if not self._clock.exists():
            self.set_clock(0)
        with (self.folder / "server.log").open("ab") as log:
            command = [sys.executable, str(FOLDER / "faulty_server.py"), *faults, "--", *serve]
            process = subprocess.Popen(command, env=environment, stderr=log)
        self.peer = Peer("subject", self.url, process)
        await asyncio.to_thread(wait_until_ready, self.peer)

    def set_clock(self, seconds: int) -> None:
        """Set the offset of the server's wall clock."""
        unfinished = self._clock.with_suffix(".new")
        unfinished.write_text(f"{seconds:+d}")
        unfinished.replace(self._clock)

    async def kill(self) -> None:
        """Stop the server with SIGKILL."""
        self.running.process.kill()
        await asyncio.to_thread(self.running.process.wait)

    async def drain(self) -> int:
        """Stop the server with SIGTERM and return the exit code."""
        self.running.terminate()
        return await asyncio.to_thread(self.running.process.wait, STOP_TIMEOUT_S)

    @property
    def running(self) -> Peer:
        """Current server process; raises RuntimeError if it was not started."""
        if self.peer is None:
            raise RuntimeError("the server was not started")
        return self.peer

    @property
    def _clock(self) -> Path:
        return self.folder / "clock"


@asynccontextmanager
async def alive(subject: Subject) -> AsyncIterator[Subject]:
    """Start the server for the block and stop it afterwards."""
    await subject.start()
    try:
        yield subject
    finally:
        if subject.running.process.poll() is None:
            await subject.kill()
