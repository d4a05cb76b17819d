"""Fixtures of the simulations: the real Batcher on a clock of events, with devices and clients that only take time."""

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from devices import a_device, loaded
from prometheus_client import CollectorRegistry

from server.errors import PromptIRServeError
from server.metrics import Metrics
from server.scheduling.batcher import Batcher
from server.scheduling.queue.tile import Batch, Completion, PaddedShape, Priority, Tile
from server.scheduling.queue.tile_queue import TileQueue

Size = int | tuple[int, int]
"""Of a square, or (height, width)."""
Cost = Callable[[int, int], float]
"""Seconds of a run by the pixels of its padded shape and the count."""
MAX_BATCH = 8


def affine(base_ms: float = 6.0, ms_per_megapixel: float = 488.28125) -> Cost:
    """The device of the benchmark: 6 ms and 2 ms for each image of 64x64."""
    return lambda pixels, count: (base_ms + ms_per_megapixel * pixels * count / 1e6) / 1e3


class Loop:
    """Stands in for an event loop: what is asked of it happens at once."""

    def call_soon_threadsafe(self, callback: Callable[..., object], *arguments: object) -> None:
        callback(*arguments)

    call_soon = call_soon_threadsafe


class Answer:
    """Stands in for a future, and tells the simulation of its end."""

    def __init__(self, loop: Loop, on_end: Callable[["Answer"], None]) -> None:
        self.outcome: Any = None
        self._loop = loop
        self._on_end = on_end

    def get_loop(self) -> Loop:
        return self._loop

    def done(self) -> bool:
        return self.outcome is not None

    def set_result(self, outcome: object) -> None:
        assert self.outcome is None
        self.outcome = outcome
        self._on_end(self)

    set_exception = set_result

    def cancel(self) -> None:
        self.set_result("cancelled")


@dataclass
class Request:
    """One request of a simulation and what became of it."""

    side: Size
    sent_at: float
    tile: Tile | None = None
    ended_at: float | None = None
    outcome: Any = None

    @property
    def latency(self) -> float:
        assert self.ended_at is not None
        return self.ended_at - self.sent_at

    @property
    def restored(self) -> bool:
        return isinstance(self.outcome, Completion)


class SimulatedDevice:
    """A worker and its device: polls when woken, runs, polls for a full batch to begin ahead, answers."""

    def __init__(
        self, simulation: "Simulation", name: str, cost: Cost, turnaround_s: float, ahead_s: float, max_batch: int
    ) -> None:
        self.device = a_device(name, max_batch)
        self.cost = cost
        self.busy_s = 0.0
        self.runs: list[tuple[float, float, Batch]] = []
        self._simulation = simulation
        self._turnaround_s = turnaround_s
        self._ahead_s = ahead_s
        self._ahead: Batch | None = None
        self._waits = True
        self._timer = 0

    def notify(self) -> None:
        """What the batcher does to wake the thread."""
        self._simulation.at(self._simulation.now, self.poll)

    notify_all = notify

    def poll(self, timer: int | None = None) -> None:
        if not self._waits or timer not in (None, self._timer):
            return
        self._timer += 1  # a thread has one wait, and each time it wakes it begins another
        batch = self._simulation.batcher.poll(self.device)
        if batch is not None:
            self._waits = False
            self._run(batch)
        elif self.device.poll_at < float("inf"):
            self._simulation.at(self.device.poll_at, partial(self.poll, self._timer))

    def _run(self, batch: Batch) -> None:
        seconds = self.cost(batch.padded_shape.pixels, len(batch.tiles))
        began = self._simulation.now
        self.busy_s += seconds
        self.runs.append((began, began + seconds, batch))
        self._ahead = self._simulation.batcher.poll(self.device, only_full=True)
        if self._ahead_s and self._ahead is None:
            self._simulation.at(began + seconds - self._ahead_s, self._look_ahead)
        self._simulation.at(began + seconds, lambda: self._end(batch, seconds))

    def _look_ahead(self) -> None:
        self._ahead = self._simulation.batcher.poll(self.device)

    def _end(self, batch: Batch, seconds: float) -> None:
        batcher, ahead = self._simulation.batcher, self._ahead
        batcher.finished(self.device, batch, seconds)
        for tile in batch.tiles:
            if not tile.future.done():
                tile.future.set_result(Completion(tile.pixels, 0.0, seconds, len(batch.tiles)))
                batcher.delivered(tile)
        batcher.queue.release(batch.tiles)
        if ahead is not None:
            batcher.expire(ahead)
            self._run(ahead)
            return
        self._waits = True
        self._simulation.at(self._simulation.now + self._turnaround_s, self.poll)


class Simulation:
    """Events in order of time, a batcher, devices, and the requests that were sent to it.

    `turnaround_s` passes between two runs, except where the next one was begun ahead; with `ahead_s` whatever waits is
    begun ahead so long before the end of a run.
    """

    def __init__(
        self,
        costs: Sequence[Cost] = (affine(),),
        *,
        seed: int = 1,
        turnaround_s: float = 0.0,
        ahead_s: float = 0.0,
        max_backlog_s: float = 1e9,
        max_batch: int = MAX_BATCH,
        learned: bool = True,
        masks: bool = False,
    ) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.registry = CollectorRegistry()
        queue = TileQueue(10**12)
        self.batcher = Batcher(queue, Metrics(self.registry), lambda: self.now, max_backlog_s=max_backlog_s)
        self.requests: list[Request] = []
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._loop = Loop()
        self._pixels: dict[Size, Any] = {}
        self.devices = [
            SimulatedDevice(self, f"sim:{number}", cost, turnaround_s, ahead_s, max_batch)
            for number, cost in enumerate(costs)
        ]
        for simulated in self.devices:
            device = simulated.device
            for side, count in ((64, 1), (64, 8), (128, 1), (128, 4)) if learned else ():
                loaded(device).cost_model.observe(PaddedShape(side, side), count, simulated.cost(side * side, count))
            loaded(device).mixes_sizes = masks
            self.batcher.join(device)
            device.wake = simulated  # type: ignore[assignment]

    def at(self, when: float, what: Callable[[], object]) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._numbers), what))

    def send(
        self,
        side: Size = 64,
        *,
        patience_s: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        then: Callable[[Request], object] = lambda _: None,
    ) -> Request:
        """Enqueue a tile now; `then` is called at its end, refusals included."""
        request = Request(side, self.now)
        self.requests.append(request)

        def end(answer: Answer) -> None:
            request.outcome, request.ended_at = answer.outcome, self.now
            then(request)

        if side not in self._pixels:
            height, width = (side, side) if isinstance(side, int) else side
            self._pixels[side] = np.broadcast_to(np.float32(0), (3, height, width))
        answer: Any = Answer(self._loop, end)
        deadline = None if patience_s is None else self.now + patience_s
        request.tile = Tile(self._pixels[side], answer, self.now, deadline, priority)
        try:
            self.batcher.enqueue(request.tile)
        except PromptIRServeError as error:
            answer.set_exception(error)
        return request

    def leave(self, request: Request) -> None:
        """The client of a request goes away."""
        if request.tile is not None and not request.tile.future.done():
            self.batcher.withdraw(request.tile)
            request.tile.future.cancel()

    def client(self, think: Callable[[], float], side: Callable[[], Size] = lambda: 64, **options: Any) -> None:
        """A client that sends one request after another, from now on, each `think()` seconds after an answer."""

        def send() -> None:
            self.send(side(), then=lambda _: self.at(self.now + think(), send), **options)

        self.at(self.now + think(), send)

    def poisson(self, rate: float, side: Callable[[], Size] = lambda: 64, until: float = 1e9, **options: Any) -> None:
        """Arrivals of a Poisson process from now on."""

        def arrive() -> None:
            if self.now < until:
                self.send(side(), **options)
                self.at(self.now + self.random.expovariate(rate), arrive)

        self.at(self.now + self.random.expovariate(rate), arrive)

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, what = heapq.heappop(self._events)
            what()
        self.now = until

    def latencies(self, since: float = 0.0, side: Size | None = None) -> Any:
        """Seconds from sent to ended of the restored requests, sorted."""
        return np.sort(
            [
                request.latency
                for request in self.requests
                if request.restored and request.sent_at >= since and side in (None, request.side)
            ]
        )

    def throughput(self, since: float = 0.0) -> float:
        """Restored per second."""
        ended = sum(
            request.restored and request.ended_at is not None and request.ended_at >= since for request in self.requests
        )
        return ended / (self.now - since)


@pytest.fixture(scope="session")
def simulate() -> type[Simulation]:
    return Simulation


@pytest.fixture(scope="session")
def device_cost() -> Callable[..., Cost]:
    return affine
