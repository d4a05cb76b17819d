"""Chaos clients: send unique pictures, retry after failures, and check the pixels of every response."""

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
    "500 wrong-output",
    "503 draining",
    "503 not-ready",
    "507 disk-full",
}
"""Problem types after which a client retries: the request was valid but not answered."""
BROKEN, ABSENT = "cut off", "cannot connect"
PAUSE_S = 0.05
ATTEMPT_S = 20.0
PATIENCE_S = 60.0
"""A picture not restored within this time counts as lost; longer than any fault lasts."""
POLL_S = 0.02
CLIENTS, SUBMITTERS = 6, 2
HEIGHT, WIDTH = 40, 56


@dataclass
class Tally:
    """Outcomes seen by the clients."""

    requests: int = 0
    restored: int = 0
    wrong: int = 0
    """Number of 200 responses with wrong pixels."""
    lost: int = 0
    """Pictures never restored, and accepted jobs that neither finished nor reported why."""
    again: Counter[str] = field(default_factory=Counter)
    """Number of retries by cause."""
    unexpected: Counter[str] = field(default_factory=Counter)
    """Number of responses that this fault does not explain."""
    accepted: int = 0
    done: int = 0
    told: Counter[str] = field(default_factory=Counter)
    """Accepted jobs that ended otherwise, by the problem type they report."""
    longest_s: float = 0.0
    """Longest time from the first attempt to the restored picture."""


@dataclass
class Crowd:
    """Clients of one server; once `stop` is set, each finishes what it has started."""

    url: str
    session: aiohttp.ClientSession
    tally: Tally = field(default_factory=Tally)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    jobs: list[tuple[str, np.ndarray]] = field(default_factory=list)
    """URL and expected pixels of each accepted job."""
    broken_at: list[tuple[float, float]] = field(default_factory=list)
    """Start and end of failed attempts, by time.monotonic."""
    headers: dict[str, str] = field(default_factory=dict)
    explained: frozenset[str] = frozenset()
    """Further job outcomes that the fault explains."""

    async def restore_all(self, pictures: Iterator[np.ndarray]) -> None:
        """Request restorations one after the other."""
        while not self.stop.is_set():
            await self._until_restored(next(pictures))

    async def submit_all(self, pictures: Iterator[np.ndarray], pause_s: float = PAUSE_S) -> None:
        """Submit jobs one after the other; `settle` checks their results."""
        while not self.stop.is_set():
            picture = next(pictures)
            self.tally.requests += 1
            outcome, _, headers = await self._post("/v1/jobs", encoded(picture))
            if outcome == "202":
                self.tally.accepted += 1
                self.jobs.append((headers["Location"], picture))
            else:
                self._note(outcome)
            await asyncio.sleep(pause_s)

    async def settle(self) -> None:
        """Fetch the result of every accepted job, and delete the job."""
        for place, picture in self.jobs:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._fetch(place, picture)
            except TimeoutError:
                self.tally.lost += 1
        self.jobs.clear()

    async def state(self, place: str) -> tuple[str, dict[str, Any]]:
        """Return a job's state, or the type of the problem reported for it, and the document."""
        async with self.session.get(self.url + place) as response:
            document = await response.json(content_type=None)
            return document.get("state") or str(document["type"]).rpartition(":")[2], document

    async def _fetch(self, place: str, picture: np.ndarray) -> None:
        while (found := await self.state(place))[0] in ("queued", "running"):
            await asyncio.sleep(POLL_S)
        state, document = found
        if state == "failed":
            state = str(document["problem"]["type"]).rpartition(":")[2]
        if state != "done":
            (self.tally.told if state in self.explained else self.tally.unexpected)[f"job {state}"] += 1
            return
        async with self.session.get(f"{self.url}{place}/result") as response:
            data = await response.read()
        self.tally.done += 1
        self.tally.wrong += response.status != 200 or not shows(data, picture)
        await self.session.delete(self.url + place)

    async def _until_restored(self, picture: np.ndarray) -> None:
        body, began = encoded(picture), time.monotonic()
        while time.monotonic() < began + PATIENCE_S:
            self.tally.requests += 1
            outcome, data, _ = await self._post("/restore", body)
            if outcome == "200":
                self.tally.restored += 1
                self.tally.wrong += not shows(data, picture)
                self.tally.longest_s = max(self.tally.longest_s, time.monotonic() - began)
                return
            self._note(outcome)
            await asyncio.sleep(PAUSE_S)
        self.tally.lost += 1

    def _note(self, outcome: str) -> None:
        (self.tally.again if outcome in RETRYABLE | {BROKEN, ABSENT} else self.tally.unexpected)[outcome] += 1

    async def _post(self, path: str, body: bytes) -> tuple[str, bytes, Any]:
        began = time.monotonic()
        try:
            timeout = aiohttp.ClientTimeout(total=ATTEMPT_S)
            async with self.session.post(self.url + path, data=body, headers=self.headers, timeout=timeout) as response:
                data = await response.read()
        except TimeoutError:
            return "no answer in time", b"", None
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
async def crowd(url: str, *, clients: int = CLIENTS, submitters: int = SUBMITTERS, **more: Any) -> AsyncIterator[Crowd]:
    """Run clients against a server; on exit, wait for everything they have started."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        crowd = Crowd(url, session, **more)
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(crowd.restore_all(pictures(number)))
            for number in range(submitters):
                group.create_task(crowd.submit_all(pictures(clients + number)))
            try:
                yield crowd
            finally:
                crowd.stop.set()
        await crowd.settle()


def pictures(seed: int) -> Iterator[np.ndarray]:
    """Yield (H, W, 3) uint8 noise of a few sizes; all pictures differ, also between clients."""
    rng = np.random.default_rng(seed)
    for number in itertools.count():
        yield rng.integers(0, 256, (HEIGHT, WIDTH + 8 * (number % 3), 3), dtype=np.uint8)


def encoded(picture: np.ndarray) -> bytes:
    """Encode a picture as PNG."""
    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()


def shows(data: bytes, picture: np.ndarray) -> bool:
    """Return whether an encoded image has exactly these pixels."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return decoded is not None and np.array_equal(decoded, picture)
