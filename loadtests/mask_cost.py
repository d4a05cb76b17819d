"""Mask cost: what a masked graph takes more than a plain one for images that fill their padded_shape.

    python loadtests/mask_cost.py --threads 2

Both are exported from the shipped weights and take turns in one process, with the server's settings of ONNX Runtime.
Several processes, since where memory lies makes a difference that no number of runs averages out. Needs the extras cpu
and export.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import onnxruntime as ort  # noqa: E402

from server.backends.onnx_runtime import session_options  # noqa: E402

VARIANT = "promptnaf"
WARMING_RUNS = 2
KINDS = ("plain", "masked")


def main() -> int:
    options = _options()
    if options.models:
        print(json.dumps(_measured(options)))
        return 0
    found: dict[str, list[dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = [_exported(Path(folder) / kind, masked=kind == "masked") for kind in KINDS]
        for _ in range(options.processes):
            command = [sys.executable, __file__, *sys.argv[1:], "--models", *map(str, models)]
            answer = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            for padded_shape, seconds in json.loads(answer).items():
                found.setdefault(padded_shape, []).append(seconds)
    print(
        f"| padded shape | threads | {' | '.join(KINDS)} | costs, by the least | by the medians |\n"
        "|---|---|---|---|---|---|"
    )
    for padded_shape, processes in found.items():
        least = {kind: min(min(process[kind]) for process in processes) for kind in KINDS}
        ratios = {of: statistics.median(_ratio(process, of) for process in processes) - 1 for of in (min, _median)}
        told = " | ".join(f"{least[kind] * 1e3:.1f} ms" for kind in KINDS)
        print(f"| {padded_shape} | {options.threads} | {told} | {ratios[min]:.1%} | {ratios[_median]:.1%} |")
    return 0


def _median(values: list[float]) -> float:
    return statistics.median(values)


def _ratio(process: dict[str, list[float]], of: Any) -> float:
    return float(of(process["masked"]) / of(process["plain"]))


def _exported(artifact: Path, *, masked: bool) -> Path:
    from export.to_onnx import export_onnx
    from models.artifact import DEFAULT_ARTIFACT

    export_onnx(DEFAULT_ARTIFACT / "weights.safetensors", VARIANT, artifact, masked=masked)
    return artifact / "model.onnx"


def _measured(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Seconds of each run by padded shape and kind."""
    sessions = {kind: _session(model, options.threads) for kind, model in zip(KINDS, options.models, strict=True)}
    found = {}
    for height, width in options.padded_shapes:
        image = np.random.default_rng(0).random((1, 3, height, width), np.float32)
        inputs: dict[str, dict[str, Any]] = {
            "plain": {"image": image},
            "masked": {"image": image, "height": np.array([height]), "width": np.array([width])},
        }
        seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for number in range(-WARMING_RUNS, options.runs):
            for kind in KINDS if number % 2 else KINDS[::-1]:
                began = time.perf_counter()
                sessions[kind].run(None, inputs[kind])
                if number >= 0:
                    seconds[kind].append(time.perf_counter() - began)
        found[f"{height}x{width}"] = seconds
    return found


def _session(model: str, threads: int) -> ort.InferenceSession:
    return ort.InferenceSession(model, session_options(ort, threads, on_cpu=True), providers=["CPUExecutionProvider"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--runs", type=int, default=12, help="of each graph, padded_shape and process")
    parser.add_argument("--padded_shapes", type=_padded_shape, nargs="+", default=[(64, 64), (96, 128), (128, 128)])
    parser.add_argument("--models", nargs=len(KINDS), help=argparse.SUPPRESS)
    return parser.parse_args()


def _padded_shape(value: str) -> tuple[int, int]:
    height, _, width = value.partition("x")
    return int(height), int(width)


if __name__ == "__main__":
    sys.exit(main())
