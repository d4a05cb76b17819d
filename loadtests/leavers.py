"""Leavers: clients that disconnect before they are answered, beside others that stay."""

import asyncio
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from bench_rows import SEED, TINY
from peers import Peer, promptir
from prometheus_client.parser import text_string_to_metric_families

from server.cli.bench.load import Load, apply
from server.cli.bench.run_log import read_run_log
from server.cli.bench.sender import Answer, Sender
from server.cli.bench.uploads import Sequencer, make_kind

LEAVERS = "leavers"
STAYING_CLIENTS = 16
LEAVING_CLIENTS = 48
PATIENCE_S = (0.005, 0.1)
"""A leaver goes after a time drawn from this range: some wait for their turn, some run, some are answered."""
LEAVERS_S = 8.0
SETTLE_S = 0.5
TIMEOUT_S = 60.0
_DROPPED = "promptir_dropped_tiles_total"


def leavers(folder: Path, seconds: float | None) -> dict[str, Any]:
    """Where those who left ended, by the server's counters and by the device's log; all who stay must be answered."""
    log = folder / "leavers.csv"
    with promptir(TINY, log) as peer:
        started_at = time.perf_counter()
        stayed, left, answered = uvloop.run(_crowd(peer, seconds or LEAVERS_S))
        time.sleep(SETTLE_S)  # the last run, whose clients have gone, ends and is logged
        images = read_run_log(log, started_at, time.perf_counter()).images or 0
        dropped = _dropped(peer)
    restored = sum(answer.ok for answer in stayed) + answered
    abandoned = dropped.get("abandoned", 0)
    return {
        "outcomes_of_those_who_stay": dict(Counter(answer.outcome for answer in stayed).most_common()),
        "left_before_their_answer": left,
        "answered_before_they_would_leave": answered,
        "taken_out_of_the_queue": dropped.get("cancelled", 0),
        "left_during_their_run": abandoned,
        "images_run_by_device": images,
        # Above 0: who left while the result was encoded, which no counter tells. Below 0: who left after the batch was
        # taken and before its run began, which counts as abandoned and did not run.
        "images_run_beyond_restored_and_abandoned": images - restored - abandoned,
    }


async def _crowd(peer: Peer, seconds: float) -> tuple[list[Answer], int, int]:
    kinds = [make_kind(64, 64, "png")]
    async with Sender(f"{peer.url}/restore", {}, None, TIMEOUT_S) as sender:
        until = time.perf_counter() + seconds
        rng = np.random.default_rng(SEED)
        leaving = [
            asyncio.create_task(_leave(sender, Sequencer(kinds, rng), rng, until)) for _ in range(LEAVING_CLIENTS)
        ]
        recording = await apply(Load(kinds, seconds, 0.0, clients=STAYING_CLIENTS, seed=SEED), sender)
        counts = await asyncio.gather(*leaving)
    return recording.answers, sum(left for left, _ in counts), sum(answered for _, answered in counts)


async def _leave(sender: Sender, sequencer: Sequencer, rng: np.random.Generator, until: float) -> tuple[int, int]:
    left = answered = 0
    while (now := time.perf_counter()) < until:
        kind, body = sequencer.next()
        request = asyncio.create_task(sender.send(kind, body, now))
        await asyncio.wait({request}, timeout=rng.uniform(*PATIENCE_S))
        if request.done():
            answered += request.result().ok
        else:
            request.cancel()  # closes the connection
            left += 1
    return left, answered


def _dropped(peer: Peer) -> dict[str, int]:
    with urllib.request.urlopen(f"{peer.url}/metrics") as page:  # noqa: S310 - an address of ours
        families = text_string_to_metric_families(page.read().decode())
    samples = (sample for family in families for sample in family.samples if sample.name == _DROPPED)
    return {sample.labels["reason"]: int(sample.value) for sample in samples}
