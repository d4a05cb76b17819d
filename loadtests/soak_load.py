"""Load of the soak test: restorations, bad images, cancelled requests and jobs, with samples of the process."""

import asyncio
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import cv2
import numpy as np
from numpy.typing import NDArray

from server.cli.bench.uploads import Body, Sequencer, kinds_of_sizes

RESTORED = "restored"
EXPECTED = (RESTORED, "rejected", "cancelled", "job done")
SHARES = (0.90, 0.05, 0.03, 0.02)
"""Shares of the four kinds of requests, in this order."""
CANCEL_WITHIN_S = 0.04
TIMEOUT_S = 30.0
POLL_S = 0.05
SAMPLE_INTERVAL_S = 1.0
SETTLE_S = 3.0


class ProcessSample(NamedTuple):
    """State of a process at one moment."""

    resident_mb: float
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Process:
    """Process whose state is read from proc(5)."""

    pid: int

    def sample(self) -> ProcessSample:
        """Read the current state."""
        folder = Path(f"/proc/{self.pid}")
        pages = int((folder / "statm").read_text().split()[1])
        descriptors, threads = (sum(1 for _ in (folder / name).iterdir()) for name in ("fd", "task"))
        return ProcessSample(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, descriptors, threads)


@dataclass
class Minute:
    """Requests of one minute with their outcomes, and samples of the process."""

    number: int
    outcomes: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    """Latencies of restored images, from their due time."""
    samples: list[ProcessSample] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, Any]:
        """The table row's figures by name; medians and quantiles of empty data are NaN."""
        p50, p99 = np.quantile(self.latencies_ms, (0.5, 0.99)) if self.latencies_ms else (np.nan, np.nan)
        return {
            "minute": self.number,
            "sent": self.outcomes.total(),
            "restored": self.outcomes[RESTORED],
            "p50_ms": float(p50),
            "p99_ms": float(p99),
            "resident_mb": float(np.median([sample.resident_mb for sample in self.samples])),
            "descriptors": max(sample.descriptors for sample in self.samples),
            "threads": max(sample.threads for sample in self.samples),
            "others": {name: times for name, times in self.outcomes.items() if name != RESTORED},
        }


class Mix:
    """Sender of the mixed requests to one server; an async context manager."""

    def __init__(self, url: str, sizes: str, rng: np.random.Generator) -> None:
        self._url = url
        self._images = Sequencer(kinds_of_sizes(sizes, "png", seed=0), rng)
        self._rng = rng
        self._sends = (self._restore, self._send_bad, self._cancel, self._job)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._entered.close()

    async def send(self, due: float, minute: Minute) -> None:
        """Send the next random request, wait for its end and record it."""
        body = self._images.next()[1]
        send = self._sends[int(self._rng.choice(len(SHARES), p=SHARES))]
        try:
            outcome = await send(body)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            outcome = type(error).__name__
        minute.outcomes[outcome] += 1
        if outcome == RESTORED:
            minute.latencies_ms.append((time.perf_counter() - due) * 1e3)

    async def _restore(self, body: Body) -> str:
        async with self._post("/restore", body) as response:
            data = await response.read()
        if response.status != 200:
            return str(response.status)
        return RESTORED if body.media_type != "image/png" or _same(data, body.data) else "WRONG PIXELS"

    async def _send_bad(self, body: Body) -> str:
        async with self._post("/restore", Body(body.data[: len(body.data) // 2], body.media_type)) as response:
            await response.read()
        return "rejected" if response.status in (415, 422) else str(response.status)

    async def _cancel(self, body: Body) -> str:
        request = asyncio.ensure_future(self._restore(body))
        await asyncio.wait({request}, timeout=self._rng.uniform(0, CANCEL_WITHIN_S))
        if request.done():
            return request.result()
        request.cancel()  # closes the connection
        await asyncio.wait({request})
        return "cancelled"

    async def _job(self, body: Body) -> str:
        async with self._post("/v1/jobs", body) as response:
            if response.status != 202:
                return f"job {response.status}"
            location = response.headers["Location"]
        while True:
            async with self._entered.get(self._url + location) as response:
                state = (await response.json())["state"]
            if state not in ("queued", "running"):
                break
            await asyncio.sleep(POLL_S)
        async with self._entered.get(f"{self._url}{location}/result") as response:
            await response.read()
        await (await self._entered.delete(self._url + location)).release()
        return f"job {state}"

    def _post(self, path: str, body: Body) -> Any:
        return self._entered.post(self._url + path, data=body.data, headers={"Content-Type": body.media_type})

    @property
    def _entered(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use the mix inside its `async with` block")
        return self._session


async def run_minute(number: int, mix: Mix, due: NDArray[np.float64], process: Process) -> Minute:
    """Send requests at their due times (seconds of time.perf_counter) and sample the process until all have ended."""
    minute = Minute(number)

    async def watch() -> None:
        while True:
            minute.samples.append(process.sample())
            await asyncio.sleep(SAMPLE_INTERVAL_S)

    watching = asyncio.create_task(watch())
    async with asyncio.TaskGroup() as group:
        for moment in due.tolist():
            await asyncio.sleep(max(0.0, moment - time.perf_counter()))
            group.create_task(mix.send(moment, minute))
    watching.cancel()
    return minute


def _same(answer: bytes, upload: bytes) -> bool:
    pictures = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) for data in (answer, upload)]
    return np.array_equal(*pictures)
