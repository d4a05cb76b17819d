"""Scheduler benchmark: compares the server and a reference batcher under the same loads, and with target figures.

Both use the same simulated device and run side by side on this machine, one row after the other. The ratio of the two
is more reliable than either figure, which depends on the machine and on what else runs there. Prints the table and
writes it, with everything measured, to FILE.json and FILE.md.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import uvloop

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # measure the checkout, not an installed version

from bench_rows import Row, Trial, rows  # noqa: E402
from bench_table import Line, lines_of, markdown  # noqa: E402
from peers import Peer, ProcessProbe, SimulatedDevice, echo, promptir, reference  # noqa: E402
from provenance import provenance  # noqa: E402

from server.cli.bench.load import Load, apply  # noqa: E402
from server.cli.bench.report import as_json  # noqa: E402
from server.cli.bench.run_log import read_run_log  # noqa: E402
from server.cli.bench.sender import Sender  # noqa: E402
from server.cli.bench.summary import Summary, summarise  # noqa: E402
from server.cli.bench.uploads import Kind, make_kind  # noqa: E402

ECHO = "echo"
ECHO_RATE = 364.0
TIMEOUT_S = 60.0
DEFAULT_OUTPUT = ROOT / "runs" / "scheduler"


def main() -> int:
    options = _options(known := rows())
    report: dict[str, Any] = {"provenance": provenance(), "trials": []}
    names = options.rows or [ECHO, *(row.name for row in known)]
    table, notes = [], []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as peers:
        start = _starter(Path(folder), peers)
        for row in (row for row in known if row.name in names):
            trials: dict[str, list[Trial]] = {}
            for number in range(options.rounds):
                servers = start(row.device)[: 2 if row.peers_too else 1]
                for peer in servers if number % 2 == 0 else reversed(servers):
                    trial = measured(row, peer, options.seconds)
                    trials.setdefault(peer.name, []).append(trial)
                    report["trials"].append(_figures(row, peer, trial))
                    notes += [f"{row.title}, {peer.name}: {doubt}" for doubt in trial.summary.warnings]
            lines = lines_of(row, trials)
            table += lines
            print(*(str(line) for line in lines), sep="\n", flush=True)
        if ECHO in names:
            report[ECHO] = _echo_figures(options.seconds or 3.0)
    report["table"] = [line.as_json() for line in table]
    _write(options.output, report, table, notes)
    return 0


def _options(known: list[Row]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [ECHO, *(row.name for row in known)]
    parser.add_argument(
        "--rows", nargs="+", choices=names, help=f"only these rows, of {', '.join(names)}", metavar="ROW"
    )
    parser.add_argument("--seconds", type=float, help="measured duration of every row (default: set by the row)")
    parser.add_argument(
        "--rounds", type=int, default=1, help="of each row (1): the servers take turns, and figures are medians"
    )
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, metavar="FILE", help="path without suffix")
    return parser.parse_args()


def _starter(folder: Path, peers: ExitStack) -> Callable[[SimulatedDevice], list[Peer]]:
    """Return a function that starts both servers of a device on first use; they stop with `peers`."""
    running: dict[SimulatedDevice, list[Peer]] = {}

    def start(device: SimulatedDevice) -> list[Peer]:
        if device not in running:
            log = folder / f"runs-{len(running)}.csv"
            running[device] = [
                peers.enter_context(promptir(device, log)),
                peers.enter_context(reference(device)),
            ]
        return running[device]

    return start


def measured(row: Row, peer: Peer, seconds: float | None) -> Trial:
    """Apply the row's load to a server; raises RuntimeError if its responses are not the images that were sent."""
    return uvloop.run(_measured(row, peer, row.load(seconds)))


async def _measured(row: Row, peer: Peer, load: Load) -> Trial:
    probe = ProcessProbe(peer)
    await check_answers(peer, row.kinds)
    async with Sender(f"{peer.url}/restore", {}, None, TIMEOUT_S) as sender:
        recording = await apply(load, sender, [probe])
    device = None if peer.run_log is None else read_run_log(peer.run_log, *recording.window)
    summary = summarise(load, recording, device=device)
    began, ended = probe.window()
    answered = sum(
        1 for answer in recording.answers if answer.answered and began.read_at <= answer.ended_at < ended.read_at
    )
    cpu_ms = (ended.peer_s - began.peer_s) * 1e3 / max(1, answered)
    return Trial(summary, recording, cpu_ms, probe.resident_mb, probe.others_share())


async def check_answers(peer: Peer, kinds: Sequence[Kind]) -> None:
    """Check that a server, whose simulated device returns its input, responds to each image with that image."""
    async with aiohttp.ClientSession() as session:
        for body in (body for kind in kinds for body in kind.bodies):
            headers = {"Content-Type": body.media_type}
            async with session.post(f"{peer.url}/restore", data=body.data, headers=headers) as response:
                answer = await response.read()
            if response.status != 200 or not np.array_equal(_decoded(body.data), _decoded(answer)):
                raise RuntimeError(f"{peer.name} does not return the image ({response.status})")


def _decoded(data: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


def _echo_figures(seconds: float) -> dict[str, Any]:
    """Measure the load generator alone, against a server that only echoes."""
    kinds = [make_kind(64, 64, "png")]

    async def run(url: str, load: Load) -> Summary:
        async with Sender(url, {}, None, TIMEOUT_S) as sender:
            return summarise(load, await apply(load, sender))

    with echo() as peer:
        lone = uvloop.run(run(peer.url, Load(kinds, seconds, 0.5, clients=1)))
        crowd = uvloop.run(run(peer.url, Load(kinds, seconds, 0.5, clients=32)))
        paced = uvloop.run(run(peer.url, Load(kinds, seconds, 0.5, rate=ECHO_RATE)))
    return {"lone": as_json(lone), "crowd": as_json(crowd), "paced": as_json(paced)}


def _figures(row: Row, peer: Peer, trial: Trial) -> dict[str, Any]:
    return {
        "row": row.name,
        "peer": peer.name,
        "simulated_device": asdict(row.device),
        "clients": row.clients,
        "ideal_per_s": row.ideal_per_s,
        "server_cpu_ms": trial.server_cpu_ms,
        "resident_mb": trial.resident_mb,
        "others_share_of_cores": trial.others_share,
        **as_json(trial.summary),
    }


def _write(output: Path, report: dict[str, Any], table: list[Line], notes: list[str]) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    text = markdown(report, table, notes)
    output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    output.with_suffix(".md").write_text(text)
    print(f"\n{text}\n{output}.json and .md")


if __name__ == "__main__":
    sys.exit(main())
