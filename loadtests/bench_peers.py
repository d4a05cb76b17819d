"""Peer benchmark: the server beside other frameworks and a script, on one simulated device and with the same photos.

A framework has a venv of its own below runs/peers/. All run at the same time, and are measured in turn; the answers are
checked first. Prints the table and writes it to FILE.json and FILE.md. CPU and memory include child processes. Figures
of a busy machine compare little: the share of other processes is reported.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # measure the checkout, not an installed version

from bench_rows import CROWD, PHOTO, SEED, TINY  # noqa: E402
from peers import MAX_BATCH, Peer, ProcessProbe, SimulatedDevice, launched, promptir, reference  # noqa: E402
from provenance import provenance  # noqa: E402
from scheduler_bench import TIMEOUT_S, check_answers  # noqa: E402

from server.cli.bench.load import Load, apply  # noqa: E402
from server.cli.bench.sender import OK, Sender  # noqa: E402
from server.cli.bench.summary import summarise  # noqa: E402
from server.cli.bench.uploads import kinds_of_sizes  # noqa: E402

VENVS = ROOT / "runs/peers"
READY_PATHS = {"mosec": "/", "litserve": "/health", "bentoml": "/readyz"}
"""The frameworks, each a package and a file in peer_servers/, with the path that answers 200 once it serves."""
SERVERS = Path(__file__).resolve().parent / "peer_servers"
OUTPUT = ROOT / "runs/peers/figures"
WARM_UP_S = 2.0
BASE, OURS = "script", "this-server"
HEAD = (
    "| load | server | per second | of the script | p50 ms | p99 ms | CPU ms each | MB | failed | cores of others |",
    "|---|---|---|---|---|---|---|---|---|---|",
)
PACKAGES = ("opencv-python-headless", "numpy", "fastapi", "uvicorn")


@dataclass(frozen=True)
class Row:
    """One load: photos of `sizes`, in the syntax of `promptir bench --sizes`, by closed-loop clients."""

    title: str
    device: SimulatedDevice
    sizes: str
    clients: int


ROWS = [
    Row("64x64, 1 client", TINY, "64x64", 1),
    Row("64x64, 32 clients", TINY, "64x64", CROWD),
    Row("64, 96 and 128, 32 clients", TINY, "64x64,96x96,128x128", CROWD),
    Row("512x512, 32 clients", PHOTO, "512x512", CROWD),
]


@contextmanager
def framework(name: str, device: SimulatedDevice) -> Iterator[Peer]:
    """Start a peer from its venv, which is created and filled if it is missing."""
    venv = VENVS / name
    python = venv / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", name, *PACKAGES], check=True)
    given = {
        "PEER_BASE_MS": str(device.base_ms),
        "PEER_MS_PER_MEGAPIXEL": str(device.ms_per_megapixel),
        "PEER_MAX_BATCH": str(MAX_BATCH),
    }
    script = str(SERVERS / f"{name}_server.py")
    with launched(
        name, [str(python), script], os.environ | given, port_name="PEER_PORT", ready=READY_PATHS[name]
    ) as peer:
        yield peer


def peers_of(device: SimulatedDevice, log: Path) -> dict[str, AbstractContextManager[Peer]]:
    """Return every peer on a device, not started yet."""
    own = {BASE: reference(device), OURS: promptir(device, log)}
    return own | {name: framework(name, device) for name in READY_PATHS}


async def measured(peer: Peer, row: Row, seconds: float) -> dict[str, float]:
    """Apply a load; returns responses per second, latencies, CPU time per response, memory and the machine's load."""
    kinds = kinds_of_sizes(row.sizes, "png", SEED)
    await check_answers(peer, kinds)
    load = Load(kinds, seconds, WARM_UP_S, clients=row.clients, seed=SEED)
    probe = ProcessProbe(peer)
    async with Sender(f"{peer.url}/restore", {}, None, TIMEOUT_S) as sender:
        summary = summarise(load, await apply(load, sender, [probe]))
    failed = sum(count for outcome, count in summary.outcomes.items() if outcome != OK)
    began, ended = probe.window()
    per_s, latency = summary.throughput_per_s, summary.latency_ms
    figures = {
        "per_s": per_s,
        "failed": float(failed),
        "cpu_ms": (ended.peer_s - began.peer_s) * 1e3 / max(1.0, per_s * seconds),
        "resident_mb": peer.family_resident_mb(),
        "others_share": probe.others_share(),
    }
    return figures if latency is None else figures | {"p50_ms": latency.p50, "p99_ms": latency.p99}


def best(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the round with the highest throughput, which other processes disturbed least, and the failures of all."""
    return max(rounds, key=lambda one: one["per_s"]) | {"failed": sum(one["failed"] for one in rounds)}


def measure_row(row: Row, names: list[str], seconds: float, rounds: int, run_log: Path) -> dict[str, dict[str, float]]:
    """Start all peers, apply the load to one after another, round by round, and return the figures of each."""
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with ExitStack() as running:
        starting = peers_of(row.device, run_log)
        peers = {name: running.enter_context(starting[name]) for name in names}
        for _ in range(rounds):
            for name, peer in peers.items():
                figures[name].append(uvloop.run(measured(peer, row, seconds)))
    return {name: best(found) for name, found in figures.items()}


def cells(figures: dict[str, float], base: float | None) -> str:
    """Return the figures of a table row; `base` is the throughput that 1.00 stands for."""
    ratio = f"{figures['per_s'] / base:.2f}" if base else ""
    times = [f"{figures[key]:.1f}" if key in figures else "" for key in ("p50_ms", "p99_ms", "cpu_ms")]
    ends = [f"{figures['resident_mb']:.0f}", f"{figures['failed']:.0f}", f"{figures['others_share']:.0%}"]
    return " | ".join([f"{figures['per_s']:.1f}", ratio, *times, *ends])


def main() -> int:
    """Measure the chosen peers on every row."""
    names = [BASE, OURS, *READY_PATHS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="+", choices=names, default=names, metavar="NAME", help="only these")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each peer and load; the best counts")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE", help="path without suffix")
    options = parser.parse_args()
    lines, report = list(HEAD), {"provenance": provenance(), "rows": (found := [])}
    with tempfile.TemporaryDirectory() as folder:
        for row in ROWS:
            log = Path(folder) / "runs.csv"
            figures = measure_row(row, options.peers, options.seconds, options.rounds, log)
            base = figures[BASE]["per_s"] if BASE in figures else None
            for name, measurement in figures.items():
                found.append({"load": row.title, "server": name, **measurement})
                lines.append(f"| {row.title} | {name} | {cells(measurement, base)} |")
                print(lines[-1], flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    options.output.with_suffix(".md").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
