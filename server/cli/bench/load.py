"""Load generator: closed-loop clients or open-loop arrivals, over a warm-up and a measured window."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.cli.bench.arrivals import Pattern, due_offsets
from server.cli.bench.sender import Answer, Sender
from server.cli.bench.uploads import Kind, Sequencer

# Pause of a closed-loop client after a refusal; without it the result would only measure refusals.
PAUSE_AFTER_FAILURE_S = 0.05
PACER = "promptir-bench-pacer"


@dataclass(frozen=True)
class Load:
    """Description of a load: `clients` that each send one request at a time, or `rate` requests per second."""

    kinds: Sequence[Kind]
    seconds: float
    warm_up_s: float
    clients: int | None = None
    rate: float | None = None
    arrivals: Pattern = "poisson"
    seed: int = 0


class Probe(Protocol):
    """Reads a value at the beginning and at the end of the measured window."""

    async def begin(self) -> None: ...

    async def end(self) -> None: ...


@dataclass
class Recording:
    """All responses, warm-up included, and the measured window in seconds of time.perf_counter."""

    window: tuple[float, float]
    answers: list[Answer] = field(default_factory=list)
    client_cpu_s: float = 0.0
    """CPU time of this process within the window."""


async def apply(load: Load, sender: Sender, probes: Sequence[Probe] = ()) -> Recording:
    """Send a load and wait for all responses; exactly one of `clients` and `rate` must be set."""
    rng = np.random.default_rng(load.seed)
    whole_s = load.warm_up_s + load.seconds
    due = None if load.rate is None else due_offsets(load.rate, whole_s, load.arrivals, rng)
    sequencer = Sequencer(load.kinds, rng)
    with _without_garbage_collection():
        began = time.perf_counter()
        recording = Recording((began + load.warm_up_s, began + whole_s))
        async with asyncio.TaskGroup() as group:
            group.create_task(_watch_window(recording, probes))
            if due is not None:
                group.create_task(_open_loop(began + due, sequencer, sender, recording.answers))
            for _ in range(load.clients or 0):
                group.create_task(_client(began + whole_s, sequencer, sender, recording.answers))
    return recording


async def _client(until: float, sequencer: Sequencer, sender: Sender, answers: list[Answer]) -> None:
    while (now := time.perf_counter()) < until:
        kind, body = sequencer.next()
        answer = await sender.send(kind, body, intended_at=now)
        answers.append(answer)
        if not answer.ok:
            await asyncio.sleep(PAUSE_AFTER_FAILURE_S)


async def _open_loop(due: NDArray[np.float64], sequencer: Sequencer, sender: Sender, answers: list[Answer]) -> None:
    async def send(intended_at: float) -> None:
        kind, body = sequencer.next()
        answers.append(await sender.send(kind, body, intended_at))

    async with asyncio.TaskGroup() as group:
        await _on_time(due, lambda intended_at: group.create_task(send(intended_at)))


async def _on_time(due: NDArray[np.float64], start: Callable[[float], object]) -> None:
    """Call `start(time)` at each of the given times, on the loop.

    A thread does the timing, because event loop timers have a resolution of a millisecond.
    """
    loop = asyncio.get_running_loop()
    finished, cancelled = asyncio.Event(), threading.Event()

    def pace() -> None:
        for moment in due.tolist():
            wait_s = moment - time.perf_counter()
            if wait_s > 0 and cancelled.wait(wait_s):
                return
            loop.call_soon_threadsafe(start, moment)
        loop.call_soon_threadsafe(finished.set)

    pacer = threading.Thread(target=pace, name=PACER, daemon=True)
    pacer.start()
    try:
        await finished.wait()
    finally:
        cancelled.set()
        pacer.join()


async def _watch_window(recording: Recording, probes: Sequence[Probe]) -> None:
    start, end = recording.window
    await asyncio.sleep(max(0.0, start - time.perf_counter()))
    for probe in probes:
        await probe.begin()
    cpu_s, read_at = time.process_time(), time.perf_counter()
    await asyncio.sleep(max(0.0, end - time.perf_counter()))
    cpu_s, read_s = time.process_time() - cpu_s, time.perf_counter() - read_at
    recording.client_cpu_s = cpu_s * (end - start) / read_s
    for probe in probes:
        await probe.end()


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    # A garbage collection during the load would look like a slow server; reference counting frees enough.
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
