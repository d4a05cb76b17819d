"""Photos of twelve sizes under Poisson arrivals: single-size batches, mixed-size batches, and one image at a time.

Measures the batcher alone in an event simulation, with a device that takes 6 ms per batch and 7.6 ms per megapixel, and
then whole servers over HTTP, with the simulated device and with the shipped network on this CPU. Over HTTP every side
is divided by four and a pixel costs sixteen times as much: a batch takes as long, but decoding does not dominate.
Prints the tables and writes them to FILE.json and FILE.md.
"""

import argparse
import importlib.util
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # measure the checkout, not an installed version

from peers import Peer, SimulatedDevice, promptir  # noqa: E402
from provenance import provenance  # noqa: E402

from server.cli.bench.load import Load, apply  # noqa: E402
from server.cli.bench.sender import Sender  # noqa: E402
from server.cli.bench.uploads import Kind, make_kind  # noqa: E402

Size = tuple[int, int]
# (height, width) and weight: uploads are mostly small, in both orientations.
PHOTOS: dict[Size, int] = {
    (256, 256): 10,
    (256, 384): 9,
    (384, 256): 6,
    (256, 320): 10,
    (320, 256): 8,
    (384, 384): 8,
    (384, 512): 8,
    (512, 384): 8,
    (512, 512): 8,
    (480, 640): 6,
    (640, 480): 5,
    (768, 1024): 2,
}
EVEN: dict[Size, int] = dict.fromkeys([*list(PHOTOS)[:-1], (1024, 1024)], 1)
ANY: dict[Size, int] = {(8 * h, 8 * w): 1 for h in range(32, 65, 2) for w in range(32, 65, 2)}
TRACES = {"photos": PHOTOS, "all equally often": EVEN, "289 sizes of 256 to 512": ANY}
BASE_MS, MS_PER_MEGAPIXEL = 6.0, 7.6
RUN_PIXELS = 2_097_152
MODES = ("buckets", "mixed sizes", "one at a time")
RATES = (80, 120, 160, 200, 240, 300)
DEADLINES_MS = (50, 100, 200)
SMALLER = 4
HTTP_RATES = (120, 200, 300)
CPU_RATES = (2, 4)
TIMEOUT_S = 120.0


@dataclass
class Row:
    """Results of one mode at one rate: latency in milliseconds, and responses per second within each deadline."""

    where: str
    trace: str
    mode: str
    rate: float
    p50: float
    p99: float
    goodput: dict[int, float]
    images_per_run: float | None = None
    pixels_run_per_useful: float | None = None

    @classmethod
    def of(cls, where: str, trace: str, mode: str, rate: float, latencies_s: Any, seconds: float) -> "Row":
        found = np.asarray(latencies_s) * 1e3
        goodput = {deadline: float((found <= deadline).sum()) / seconds for deadline in DEADLINES_MS}
        p50, p99 = np.percentile(found, [50, 99]) if len(found) else (np.nan, np.nan)
        return cls(where, trace, mode, rate, float(p50), float(p99), goodput)

    def cells(self) -> list[str]:
        within = [f"{self.goodput[deadline]:.1f}" for deadline in DEADLINES_MS]
        detail = [
            "" if value is None else f"{value:.2f}" for value in (self.images_per_run, self.pixels_run_per_useful)
        ]
        return [self.trace, f"{self.rate:g}", self.mode, f"{self.p50:.0f} / {self.p99:.0f}", *within, *detail]


HEADER = ["trace", "offered /s", "mode", "p50 / p99 ms", *(f"within {ms} ms /s" for ms in DEADLINES_MS)]
HEADER += ["images per run", "pixels run / useful"]


def main() -> int:
    options = _options()
    rows: list[Row] = []
    parts = {"clock": _simulated_clock, "simulated": _over_http, "cpu": _on_this_cpu}
    for name in options.parts or parts:
        for row in parts[name](options.seconds):
            rows.append(row)
            print(row.where, *row.cells(), sep="\t", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    report = {"provenance": provenance(), "rows": [asdict(row) for row in rows]}
    options.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    options.output.with_suffix(".md").write_text(_markdown(rows))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("clock", "simulated", "cpu"))
    parser.add_argument("--seconds", type=float, default=8.0, help="measured duration of each row over HTTP")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "runs" / "mixed", metavar="FILE", help="output path without suffix"
    )
    return parser.parse_args()


def _simulated_clock(_: float) -> Iterator[Row]:
    simulation = _simulation()
    cost = simulation.affine(BASE_MS, MS_PER_MEGAPIXEL)
    seconds, settled = 30.0, 5.0
    for trace, sizes in TRACES.items():
        for rate in RATES:
            for mode in MODES:
                sim = simulation.Simulation(
                    (cost,),
                    turnaround_s=0.0005,
                    ahead_s=0.001,
                    masks=mode == "mixed sizes",
                    max_batch=1 if mode == "one at a time" else simulation.MAX_BATCH,
                    max_backlog_s=30.0,
                )
                sim.devices[0].device.models[""].max_run_pixels = RUN_PIXELS
                draw = random.Random(1)
                choose = lambda draw=draw, sizes=sizes: draw.choices(list(sizes), list(sizes.values()))[0]  # noqa: E731
                sim.poisson(rate, choose, until=seconds)
                sim.run(seconds + 120)
                row = Row.of("clock", trace, mode, rate, sim.latencies(since=settled), seconds - settled)
                batches = [batch for *_, batch in sim.devices[0].runs]
                row.images_per_run = sum(len(batch.tiles) for batch in batches) / len(batches)
                useful = sum(tile.pixel_count for batch in batches for tile in batch.tiles)
                row.pixels_run_per_useful = sum(batch.pixel_count for batch in batches) / useful
                yield row


def _over_http(seconds: float) -> Iterator[Row]:
    device = SimulatedDevice(BASE_MS, MS_PER_MEGAPIXEL * SMALLER**2)
    kinds = _kinds()
    with tempfile.TemporaryDirectory() as folder:
        for mode in MODES:
            settings = {
                "simulated_mixed_sizes": mode == "mixed sizes",
                "max_batch": 1 if mode == "one at a time" else 8,
                "max_run_pixels": RUN_PIXELS // SMALLER**2,
            }
            with promptir(device, Path(folder) / f"{mode}.csv", **settings) as peer:
                for rate in HTTP_RATES:
                    yield uvloop.run(_sent(peer, "simulated device", mode, rate, kinds, seconds))


def _on_this_cpu(seconds: float) -> Iterator[Row]:
    from export.to_onnx import export_onnx
    from models.artifact import DEFAULT_ARTIFACT

    masked = ROOT / "runs" / "masked"
    if not masked.exists():
        masked.parent.mkdir(exist_ok=True)
        export_onnx(DEFAULT_ARTIFACT / "weights.safetensors", "promptnaf", masked, masked=True)
    kinds, device = _kinds(), SimulatedDevice(0, 0)
    for mode in MODES:
        artifact = masked if mode == "mixed sizes" else DEFAULT_ARTIFACT
        settings = {"backend": "onnx", "artifact": artifact, "max_batch": 1 if mode == "one at a time" else 8}
        with tempfile.TemporaryDirectory() as folder, promptir(device, Path(folder) / "none.csv", **settings) as peer:
            for rate in CPU_RATES:
                yield uvloop.run(_sent(peer, "this CPU", mode, rate, kinds, 3 * seconds))


async def _sent(peer: Peer, where: str, mode: str, rate: float, kinds: list[Kind], seconds: float) -> Row:
    load = Load(kinds, seconds, warm_up_s=2.0, rate=rate)
    async with Sender(f"{peer.url}/restore", {}, None, TIMEOUT_S) as sender:
        recording = await apply(load, sender)
    began, ended = recording.window
    answers = [answer for answer in recording.answers if began <= answer.intended_at < ended]
    return Row.of(where, "photos", mode, rate, [answer.latency_s for answer in answers if answer.ok], seconds)


def _kinds() -> list[Kind]:
    return [make_kind(w // SMALLER, h // SMALLER, "png", weight) for (h, w), weight in PHOTOS.items()]


def _simulation() -> Any:
    """Import the simulation from the tests of the batcher."""
    path = ROOT / "tests" / "unit" / "server" / "scheduling" / "simulation" / "conftest.py"
    spec = importlib.util.spec_from_file_location("simulation", path)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _markdown(rows: list[Row]) -> str:
    lines: list[str] = []
    for where in dict.fromkeys(row.where for row in rows):
        lines += ["", f"## {where}", "", f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER)]
        lines += [f"| {' | '.join(row.cells())} |" for row in rows if row.where == where]
    return "\n".join(lines[1:]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
