"""Clients of the chaos test: send unique images, retry after failures and check the pixels of every result."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import cv2
import numpy as np

RETRYABLE = {
    "429 queue-full",
    "429 jobs-full",
    "500 backend-error",
    "500 backend-lost",
    "500 codec-lost",
    "500 wrong-output",
    "503 draining",
    "503 not-ready",
    "507 disk-full",
}
"""Problems after which a valid request is retried."""
BROKEN, ABSENT = "cut off", "cannot connect"
PAUSE_S = 0.05
ATTEMPT_S = 20.0
PATIENCE_S = 60.0
"""Time after which an image without a result counts as lost; longer than any fault."""
POLL_S = 0.02
CLIENTS, SUBMITTERS = 6, 2
HEIGHT, WIDTH = 40, 56


@dataclass
class Counts:
    """Outcomes seen by the clients."""

    requests: int = 0
    restored: int = 0
    wrong: int = 0
    """Responses with status 200 and wrong pixels."""
    lost: int = 0
    """Images that were never restored, and accepted jobs that neither finished nor reported a reason."""
    retried: Counter[str] = field(default_factory=Counter)
    """Reasons for retries."""
    unexpected: Counter[str] = field(default_factory=Counter)
    """Outcomes that the fault does not explain."""
    accepted: int = 0
    done: int = 0
    reported: Counter[str] = field(default_factory=Counter)
    """Accepted jobs that failed, by the reported problem."""
    longest_s: float = 0.0
    """Longest time from the first attempt to the result."""


@dataclass
class Crowd:
    """Clients of one server that run until `stop` is set and then finish their current request."""

    url: str
    session: aiohttp.ClientSession
    counts: Counts = field(default_factory=Counts)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    jobs: list[tuple[str, np.ndarray]] = field(default_factory=list)
    """Locations of accepted jobs, and their pixels."""
    broken_at: list[tuple[float, float]] = field(default_factory=list)
    """Start and end of broken attempts, in seconds of time.monotonic."""
    headers: dict[str, str] = field(default_factory=dict)
    explained: frozenset[str] = frozenset()
    """Additional job outcomes that the fault explains."""

    async def restore_all(self, pictures: Iterator[np.ndarray]) -> None:
        """Restore images one after the other."""
        while not self.stop.is_set():
            await self._until_restored(next(pictures))

    async def submit_all(self, pictures: Iterator[np.ndarray], pause_s: float = PAUSE_S) -> None:
        """Submit jobs one after the other; `settle` collects their results."""
        while not self.stop.is_set():
            picture = next(pictures)
            self.counts.requests += 1
            outcome, _, headers = await self._post("/v1/jobs", encoded(picture))
            if outcome == "202":
                self.counts.accepted += 1
                self.jobs.append((headers["Location"], picture))
            else:
                self._note(outcome)
            await asyncio.sleep(pause_s)

    async def settle(self) -> None:
        """Fetch and delete the result of every accepted job."""
        for location, picture in self.jobs:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._fetch(location, picture)
            except TimeoutError:
                self.counts.lost += 1
        self.jobs.clear()

    async def state(self, location: str) -> tuple[str, dict[str, Any]]:
        """Return a job's state, or the slug of the problem, with the JSON document."""
        async with self.session.get(self.url + location) as response:
            document = await response.json(content_type=None)
            return document.get("state") or str(document["type"]).rpartition(":")[2], document

    async def _fetch(self, location: str, picture: np.ndarray) -> None:
        while (found := await self.state(location))[0] in ("queued", "running"):
            await asyncio.sleep(POLL_S)
        state, document = found
        if state == "failed":
            state = str(document["problem"]["type"]).rpartition(":")[2]
        if state != "done":
            (self.counts.reported if state in self.explained else self.counts.unexpected)[f"job {state}"] += 1
            return
        async with self.session.get(f"{self.url}{location}/result") as response:
            data = await response.read()
        self.counts.done += 1
        self.counts.wrong += response.status != 200 or not has_pixels(data, picture)
        await self.session.delete(self.url + location)

    async def _until_restored(self, picture: np.ndarray) -> None:
        body, began = encoded(picture), time.monotonic()
        while time.monotonic() < began + PATIENCE_S:
            self.counts.requests += 1
            outcome, data, _ = await self._post("/restore", body)
            if outcome == "200":
                self.counts.restored += 1
                self.counts.wrong += not has_pixels(data, picture)
                self.counts.longest_s = max(self.counts.longest_s, time.monotonic() - began)
                return
            self._note(outcome)
            await asyncio.sleep(PAUSE_S)
        self.counts.lost += 1

    def _note(self, outcome: str) -> None:
        (self.counts.retried if outcome in RETRYABLE | {BROKEN, ABSENT} else self.counts.unexpected)[outcome] += 1

    async def _post(self, path: str, body: bytes) -> tuple[str, bytes, Any]:
        began = time.monotonic()
        try:
            timeout = aiohttp.ClientTimeout(total=ATTEMPT_S)
            async with self.session.post(self.url + path, data=body, headers=self.headers, timeout=timeout) as response:
                data = await response.read()
        except TimeoutError:
            return "timeout", b"", None
        except aiohttp.ClientConnectorError:
            return ABSENT, b"", None
        except (aiohttp.ClientError, OSError):
            self.broken_at.append((began, time.monotonic()))
            return BROKEN, b"", None
        outcome = str(response.status)
        if response.content_type == "application/problem+json":
            outcome += " " + str((await response.json(content_type=None))["type"]).rpartition(":")[2]
        return outcome, data, response.headers


@asynccontextmanager
async def crowd(
    url: str, *, clients: int = CLIENTS, submitters: int = SUBMITTERS, scale: int = 1, **more: Any
) -> AsyncIterator[Crowd]:
    """Run a crowd of clients during the block; on exit, wait for their open requests and jobs."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        crowd = Crowd(url, session, **more)
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(crowd.restore_all(pictures(number, scale)))
            for number in range(submitters):
                group.create_task(crowd.submit_all(pictures(clients + number, scale)))
            try:
                yield crowd
            finally:
                crowd.stop.set()
        await crowd.settle()


def pictures(seed: int, scale: int = 1) -> Iterator[np.ndarray]:
    """Yield unique noise images in a few sizes, `scale` times as high and wide as usual: (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    for number in itertools.count():
        yield rng.integers(0, 256, (scale * HEIGHT, scale * (WIDTH + 8 * (number % 3)), 3), dtype=np.uint8)


def encoded(picture: np.ndarray) -> bytes:
    """Encode an image as PNG."""
    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()


def has_pixels(data: bytes, picture: np.ndarray) -> bool:
    """Return whether an encoded image has exactly these pixels."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return decoded is not None and np.array_equal(decoded, picture)
