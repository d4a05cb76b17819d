"""Soak test: runs a server at 80 % of its capacity for half an hour and checks its process for leaks.

Run as `python loadtests/soak.py [--minutes 30] [--load 0.8] [--json FILE]`. It prints a line for each minute and exits
with 1 if a limit in docs/reliability.md was exceeded: growing memory, rising p99, leaked descriptors or threads, or
wrong responses.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import uvloop
from peers import MAX_BATCH, Peer, SimulatedDevice, promptir
from soak_load import SETTLE_S, Minute, Mix, Process, run_minute
from soak_verdict import line, verdict

from server.cli.bench.arrivals import due_offsets
from server.cli.bench.load import Load, apply
from server.cli.bench.sender import Sender
from server.cli.bench.uploads import kinds_of_sizes

DEVICE = SimulatedDevice(base_ms=60.0, ms_per_megapixel=400.0)
"""Slow enough to make the device the bottleneck, even if the load shares two cores with the server."""
SIZES = "64:3,96:2,128x96.jpeg:1"
CAPACITY_S, CAPACITY_CLIENTS = 6.0, 64
MINUTE_S = 60.0
MIN_MINUTES = 2
TIMEOUT_S = 30.0
SEED = 3
HEADER = (
    "| minute | sent | restored | p50 ms | p99 ms | RSS MB | descriptors | threads | other outcomes |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


async def soak(peer: Peer, minutes: int, minute_s: float, load: float, rate: float | None) -> list[Minute]:
    """Run the soak and print each minute; the first is the warm-up, and during the last no client is connected."""
    if rate is None:
        full_rate = await capacity(peer)
        rate = load * full_rate
        print(f"{rate:.1f} requests per second, {load:.0%} of the server's capacity of {full_rate:.1f}\n")
    print(HEADER)
    process = Process(peer.process.pid)
    rng, found = np.random.default_rng(SEED), []
    async with Mix(peer.url, SIZES, rng) as mix:
        for number in range(minutes + 1):
            due = time.perf_counter() + due_offsets(rate, minute_s, "poisson", rng)
            minute = await run_minute(number, mix, due, process)
            found.append(minute)
            print(line(minute), flush=True)
    await asyncio.sleep(SETTLE_S)
    return [*found, Minute(len(found), samples=[process.sample()])]


async def capacity(peer: Peer) -> float:
    """Measure the restorations per second with clients that send without pauses."""
    crowd = Load(kinds_of_sizes(SIZES, "png", SEED), CAPACITY_S, 1.0, clients=CAPACITY_CLIENTS, seed=SEED)
    async with Sender(f"{peer.url}/restore", {}, None, TIMEOUT_S) as sender:
        recording = await apply(crowd, sender)
    start, end = recording.window
    return sum(answer.ok and start <= answer.ended_at < end for answer in recording.answers) / (end - start)


def main() -> int:
    """Run the soak; returns 1 if any limit was exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=30, metavar="N", help="minutes after the warm-up (30)")
    parser.add_argument("--load", type=float, default=0.8, metavar="SHARE", help="share of the server's capacity (0.8)")
    parser.add_argument("--rate", type=float, metavar="R", help="requests per second, instead of --load")
    parser.add_argument(
        "--minute-s", type=float, default=MINUTE_S, metavar="S", help="length of a minute, shorter for a trial (60)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures as JSON")
    arguments = parser.parse_args()
    if arguments.minutes < MIN_MINUTES:
        parser.error(f"at least {MIN_MINUTES} minutes are needed to detect growth")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "runs.csv"
        with promptir(DEVICE, log, jobs_folder=Path(folder) / "jobs", max_batch=MAX_BATCH) as peer:
            options = arguments.minutes, arguments.minute_s, arguments.load, arguments.rate
            minutes = uvloop.run(soak(peer, *options))
    lines = verdict(minutes)
    print()
    for check in lines:
        print(f"{check.name:<44}{check.measured:>10.2f} (limit {check.limit:g}){'' if check.holds else ' MISSED'}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([minute.figures for minute in minutes[:-1]], indent=1) + "\n")
    return int(not all(check.holds for check in lines))


if __name__ == "__main__":
    sys.exit(main())
