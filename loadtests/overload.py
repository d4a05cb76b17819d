"""Overload: our server under five times what its device can do, and the end of its process under load."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from bench_rows import CROWD, PHOTO, SEED, TINY
from peers import MAX_BATCH, STOP_TIMEOUT_S, Peer, ProcessProbe, SimulatedDevice, promptir

from server.cli.bench.load import Load, Recording, apply
from server.cli.bench.report import as_json
from server.cli.bench.run_log import read_run_log
from server.cli.bench.sender import Answer, Sender
from server.cli.bench.summary import Spread, Summary, spread_of, summarise
from server.cli.bench.uploads import make_kind

OVERLOAD = "overload"
OVERLOADED_CODECS = "overload-codecs"
DRAIN = "drain"

TIMES_CAPACITY = 5
OVERLOAD_S = 60.0
CAPACITY_S = 6.0
BACKLOG_MS = 1000
"""The setting max_backlog_ms of the server here: what waits and runs is predicted to take no longer."""
SIDE, PHOTO_SIDE = 64, 256
DRAIN_S = 3.0
TIMEOUT_S = 60.0
MEMORY_SAMPLE_S = 1.0
TOTAL = re.compile(r"total;dur=([\d.]+)")
SETTLED_SHARE = 0.25  # the first quarter may still fill caches and buffers


def overload(
    folder: Path, seconds: float | None, *, device: SimulatedDevice = TINY, side: int = SIDE
) -> dict[str, Any]:
    """Goodput, waits, refusals and memory at five times the capacity, for a minute unless told otherwise.

    With a quick device and larger images what is overloaded are the codecs.
    """
    kinds = [make_kind(side, side, "png")]
    run_ms = device.run_ms(MAX_BATCH, side * side)
    ideal_per_s = 1e3 * MAX_BATCH / run_ms
    with promptir(device, folder / "overload.csv", max_backlog_ms=BACKLOG_MS) as peer:
        crowd = Load(kinds, min(CAPACITY_S, seconds or CAPACITY_S), 1.0, clients=CROWD, seed=SEED)
        capacity, *_ = uvloop.run(_summed_up(crowd, peer, run_ms))
        flood = Load(kinds, seconds or OVERLOAD_S, 2.0, rate=TIMES_CAPACITY * capacity.throughput_per_s, seed=SEED)
        summary, refusals, memory_mb, others_share = uvloop.run(_summed_up(flood, peer, run_ms))
    settled = np.array(memory_mb[int(len(memory_mb) * SETTLED_SHARE) :])
    queue = summary.stages_ms.get("queue")
    goodput = summary.goodput_per_s or 0.0
    return {
        "ideal_per_s": ideal_per_s,
        "capacity_per_s": capacity.throughput_per_s,
        "offered_per_s": summary.offered_per_s,
        "restored_per_s": summary.throughput_per_s,
        "goodput_per_s": goodput,
        "goodput_of_capacity": goodput / capacity.throughput_per_s,
        "goodput_of_ideal": goodput / ideal_per_s,
        "bound_ms": BACKLOG_MS,
        "longest_wait_in_queue_ms": queue and queue.maximum,
        "refusal_in_server_ms": refusals and asdict(refusals),
        "outcomes": summary.outcomes,
        "memory_mb": {"first": memory_mb[0], "settled_min": settled.min(), "settled_max": settled.max()},
        "memory_growth_mb_per_min": np.polyfit(np.arange(len(settled)), settled, 1)[0] * 60 / MEMORY_SAMPLE_S,
        "others_share_of_cores": others_share,
        "summary": as_json(summary),
    }


async def _summed_up(load: Load, peer: Peer, run_ms: float) -> tuple[Summary, Spread | None, list[float], float]:
    """The figures, the milliseconds from the head of a request to its refusal, the memory, what others took."""
    memory_mb: list[float] = []

    async def watch_memory() -> None:
        while True:
            memory_mb.append(peer.resident_mb())
            await asyncio.sleep(MEMORY_SAMPLE_S)

    probe = ProcessProbe(peer)
    async with Sender(f"{peer.url}/restore", {}, None, TIMEOUT_S) as sender:
        watch = asyncio.create_task(watch_memory())
        recording = await apply(load, sender, [probe])
        watch.cancel()
    device = None if peer.run_log is None else read_run_log(peer.run_log, *recording.window)
    # A request that was accepted at the bound still has its own run to come.
    summary = summarise(load, recording, deadline_ms=BACKLOG_MS + run_ms, device=device)
    return summary, _refusals(recording), memory_mb, probe.others_share()


def _refusals(recording: Recording) -> Spread | None:
    timings = [answer.server_timing or "" for answer in recording.answers if answer.outcome.startswith("429")]
    return spread_of([float(match[1]) for timing in timings if (match := TOTAL.search(timing))])


def overload_codecs(folder: Path, seconds: float | None) -> dict[str, Any]:
    """The same with images of 256x256 that the device restores sooner than the processor reads and writes them."""
    return overload(folder, seconds, device=PHOTO, side=PHOTO_SIDE)


def drain(folder: Path, seconds: float | None) -> dict[str, Any]:
    """SIGTERM while a crowd sends: who was answered, what the device ran, how the process ended."""
    kinds = [make_kind(SIDE, SIDE, "png")]
    each_s = seconds or DRAIN_S
    load = Load(kinds, 2 * each_s, 0.0, clients=CROWD, seed=SEED)
    log = folder / "drain.csv"
    with promptir(TINY, log) as peer:
        started_at = time.perf_counter()
        recording, told_at, ended_at, code = uvloop.run(_drained(load, peer, each_s))
    answers = recording.answers
    before = [answer for answer in answers if answer.sent_at < told_at]
    images = read_run_log(log, started_at, ended_at + 1).images
    return {
        "exit_code": code,
        "seconds_from_sigterm_to_exit": ended_at - told_at,
        "sent_before_sigterm": _counted(before),
        "in_flight_at_sigterm": _counted([answer for answer in before if answer.ended_at >= told_at]),
        "sent_after_sigterm": _counted([answer for answer in answers if answer.sent_at >= told_at]),
        "images_run_by_device": images,
        "images_restored_for_clients": sum(answer.ok for answer in answers),
    }


async def _drained(load: Load, peer: Peer, after_s: float) -> tuple[Recording, float, float, int]:
    loop = asyncio.get_running_loop()
    async with Sender(f"{peer.url}/restore", {}, None, TIMEOUT_S) as sender:
        sending = asyncio.create_task(apply(load, sender))
        await asyncio.sleep(after_s)
        told_at = time.perf_counter()
        peer.terminate()
        code = await loop.run_in_executor(None, peer.process.wait, STOP_TIMEOUT_S)
        ended_at = time.perf_counter()
        return await sending, told_at, ended_at, code


def _counted(answers: Sequence[Answer]) -> dict[str, int]:
    return dict(Counter(answer.outcome for answer in answers).most_common())
