"""Several devices: the throughput of one, two and four simulated devices behind one queue."""

from pathlib import Path
from typing import Any

import uvloop
from bench_rows import CROWD, SEED
from peers import MAX_BATCH, Peer, SimulatedDevice, promptir

from server.cli.bench.load import Load, apply
from server.cli.bench.run_log import read_run_log
from server.cli.bench.sender import Sender
from server.cli.bench.summary import Summary, summarise
from server.cli.bench.uploads import make_kind

DEVICES = "devices"
COUNTS = (1, 2, 4)
AT_LEAST = {2: 1.95, 4: 3.8}
SIDE = 64
SLOW = SimulatedDevice(24, 1953)
"""88 ms for 8 images: four of these ask no more of the HTTP side than one of the others does."""
DEVICES_S = 8.0
TIMEOUT_S = 60.0


def several_devices(folder: Path, seconds: float | None) -> dict[str, Any]:
    """Throughput by the number of devices, and how many times that of one it is."""
    throughput: dict[int, float] = {}
    busy: dict[int, float | None] = {}
    for count in COUNTS:
        names = ",".join(f"sim:{number}" for number in range(count))
        log = folder / f"devices-{count}.csv"
        with promptir(SLOW, log, devices=names) as peer:
            summary = uvloop.run(_loaded(peer, count, seconds or DEVICES_S))
        throughput[count] = summary.throughput_per_s
        busy[count] = summary.device and summary.device.busy_share
    times = {count: throughput[count] / throughput[1] for count in COUNTS}
    return {
        "ideal_of_one_per_s": 1e3 * MAX_BATCH / SLOW.run_ms(MAX_BATCH, SIDE * SIDE),
        "throughput_per_s": throughput,
        "times_that_of_one": times,
        "busy_devices": busy,
        "aims": AT_LEAST,
        "met": {count: times[count] >= aim for count, aim in AT_LEAST.items()},
    }


async def _loaded(peer: Peer, count: int, seconds: float) -> Summary:
    load = Load([make_kind(SIDE, SIDE, "png")], seconds, 1.5, clients=count * CROWD, seed=SEED)
    async with Sender(f"{peer.url}/restore", {}, None, TIMEOUT_S) as sender:
        recording = await apply(load, sender)
    device = None if peer.run_log is None else read_run_log(peer.run_log, *recording.window)
    return summarise(load, recording, device=device)
