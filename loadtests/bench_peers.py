"""Peer benchmark: the server beside LitServe, mosec and a script, on one simulated device and with the same photos.

Each peer has a venv of its own below runs/peers/. Every answer is checked before it is measured. Prints the table and
writes it to FILE.json and FILE.md. Figures of a busy machine compare nothing: the share of other processes is reported.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # measure the checkout, not an installed version

from bench_rows import CROWD, PHOTO, SEED, TINY  # noqa: E402
from peers import MAX_BATCH, Peer, SimulatedDevice, launched, promptir, reference  # noqa: E402
from provenance import provenance  # noqa: E402
from scheduler_bench import TIMEOUT_S, check_answers  # noqa: E402

from server.cli.bench.load import Load, apply  # noqa: E402
from server.cli.bench.sender import Sender  # noqa: E402
from server.cli.bench.summary import summarise  # noqa: E402
from server.cli.bench.uploads import kinds_of_sizes  # noqa: E402

VENVS = ROOT / "runs/peers"
SERVERS = Path(__file__).resolve().parent / "peer_servers"
OUTPUT = ROOT / "runs/peers/figures"
WARM_UP_S = 2.0
PACKAGES = ("opencv-python-headless", "numpy", "starlette", "uvicorn")


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
def framework(name: str, ready: str, device: SimulatedDevice) -> Iterator[Peer]:
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
    with launched(name, [str(python), script], os.environ | given, port_name="PEER_PORT", ready=ready) as peer:
        yield peer


def peers_of(device: SimulatedDevice, log: Path) -> dict[str, AbstractContextManager[Peer]]:
    """Return every peer on a device, not started yet."""
    return {
        "this server": promptir(device, log),
        "script": reference(device),
        "mosec": framework("mosec", "/", device),
        "litserve": framework("litserve", "/health", device),
    }


async def measured(peer: Peer, row: Row, seconds: float) -> dict[str, float]:
    """Apply a load; returns responses per second and latencies in milliseconds."""
    kinds = kinds_of_sizes(row.sizes, SEED)
    await check_answers(peer, kinds)
    load = Load(kinds, seconds, WARM_UP_S, clients=row.clients, seed=SEED)
    async with Sender(f"{peer.url}/restore", {}, None, TIMEOUT_S) as sender:
        summary = summarise(load, await apply(load, sender))
    failed = sum(count for outcome, count in summary.outcomes.items() if outcome != "restored")
    latency = summary.latency_ms
    figures = {"per_s": summary.throughput_per_s, "failed": float(failed)}
    return figures if latency is None else figures | {"p50_ms": latency.p50, "p99_ms": latency.p99}


def main() -> int:
    """Measure the chosen peers on every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured duration of every row")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE", help="path without suffix")
    options = parser.parse_args()
    lines = ["| load | server | per second | p50 | p99 | failed |", "|---|---|---|---|---|---|"]
    report: dict[str, object] = {"provenance": provenance(), "rows": (found := [])}
    with tempfile.TemporaryDirectory() as folder:
        for row in ROWS:
            for name, starting in peers_of(row.device, Path(folder) / "runs.csv").items():
                if options.peers and name not in options.peers:
                    continue
                with starting as peer:
                    figures = uvloop.run(measured(peer, row, options.seconds))
                found.append({"load": row.title, "server": name, **figures})
                cells = [f"{figures.get(key, 0):.1f}" for key in ("per_s", "p50_ms", "p99_ms", "failed")]
                lines.append(f"| {row.title} | {name} | {' | '.join(cells)} |")
                print(lines[-1], flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    options.output.with_suffix(".md").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
