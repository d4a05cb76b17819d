"""Benchmark of the network on the local GPU with every installed runtime, compared with the device's limits.

Requires only torch; ONNX Runtime with CUDA and TensorRT are measured if installed. Runs the GPU tests, times the
paper's variant with random weights (which do not affect the cost), prints a table and writes
docs/benchmarks/gpu-<device>.json. To try the report itself: --device cpu --variant promptir-tiny --sizes 64 --batches
1.
"""

import argparse
import importlib.metadata
import json
import math
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a GPU machine may have torch and no installed checkout

from gpu_ways import UnavailableError, Way, all_ways, seconds_of  # noqa: E402

from models.precision import to_mixed  # noqa: E402
from models.restoration import RestorationNetwork  # noqa: E402
from models.variants import VARIANTS, build, variant  # noqa: E402

COUNTED_SIDE = 128
LARGEST_RUN_PIXELS = 4_194_304
MATRIX_SIDE = {"cuda": 8192, "cpu": 1024}
COPY_BYTES = {"cuda": 2**30, "cpu": 2**26}
TEST_TIMEOUT_S = 90
LIBRARIES = ("torch", "triton", "onnx", "onnxruntime-gpu", "onnxruntime", "tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class Limits:
    """Measured limits of the device: FP16 matrix product rate and memory copy bandwidth."""

    matrix_tflop_per_s: float
    copy_gb_per_s: float


@dataclass(frozen=True)
class Work:
    """Cost per pixel if every operator reads its inputs from memory and writes its output there.

    A runtime that fuses operators moves fewer bytes, so its share of the copy bandwidth may exceed one.
    """

    flop_per_pixel: float
    full_bytes_per_pixel: float
    half_bytes_per_pixel: float

    @staticmethod
    def of(network: RestorationNetwork, device: torch.device) -> "Work":
        """Measure the work on a small image; all of it except the weights is linear in the number of pixels."""
        image = torch.zeros(1, 3, COUNTED_SIDE, COUNTED_SIDE, device=device)
        with FlopCounterMode(display=False) as flop:
            network(image)
        full, half = Traffic(), Traffic()
        with full:
            network(image)
        mixed = to_mixed(network)
        with half:
            mixed(image)
        return Work(*(count / COUNTED_SIDE**2 for count in (flop.get_total_flops(), full.bytes, half.bytes)))


class Traffic(TorchDispatchMode):
    """Counts the bytes of activations that operators read and write inside the block; views are free."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        output = func(*args, **(kwargs or {}))
        if not any(value.alias_info for value in func._schema.returns):
            tensors = [t for t in tree_leaves((args, kwargs, output)) if isinstance(t, Tensor)]
            self.bytes += sum(t.numel() * t.element_size() for t in tensors if not isinstance(t, torch.nn.Parameter))
        return output


@dataclass(frozen=True)
class Row:
    """Result of one runtime at one shape; a reason instead of figures if it could not run."""

    way: str
    side: int
    batch: int
    ms_per_image: float = math.nan
    ms_per_megapixel: float = math.nan
    tflop_per_s: float = math.nan
    matrix_rate_share: float = math.nan
    copy_bandwidth_share: float = math.nan
    peak_memory_mib: float = math.nan
    psnr_db: float = math.nan
    reason: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the figures or the reason, without NaN, which JSON lacks."""
        return {name: value for name, value in asdict(self).items() if value is not None and value == value}


def main() -> int:
    options = parse()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("gpu-report: torch finds no usable NVIDIA GPU; nothing was measured", file=sys.stderr)
        return 1
    deadline = time.monotonic() + 60 * options.minutes
    report = describe(device, options.variant)
    report["gpu_tests"] = run_gpu_tests() if options.tests else "not run"
    limits = measure_limits(device)
    report["limits"] = asdict(limits)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for row in measure(options, device, limits, chosen(options, Path(folder)), deadline):
            rows.append(row)
            print(format_row(row), flush=True)
    report["rows"] = [row.as_dict() for row in rows]
    target = options.output or ROOT / "docs" / "benchmarks" / f"gpu-{slug(str(report['device']))}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"\nmatrix rate {limits.matrix_tflop_per_s:.1f} TFLOP/s, copy {limits.copy_gb_per_s:.0f} GB/s")
    print(f"GPU tests: {report['gpu_tests']}\nwritten to {target.name}")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="promptir")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--ways", nargs="+", metavar="TEXT", help="only the ways whose name contains one of these")
    parser.add_argument("--minutes", type=float, default=6.0, help="start no further measurement after this time")
    parser.add_argument("--no-tests", dest="tests", action="store_false", help="skip the GPU tests")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


def chosen(options: argparse.Namespace, folder: Path) -> list[Way]:
    ways = all_ways(folder)
    return [way for way in ways if not options.ways or any(text in way.name for text in options.ways)]


def measure(
    options: argparse.Namespace, device: torch.device, limits: Limits, ways: list[Way], deadline: float
) -> Iterator[Row]:
    torch.manual_seed(0)
    network = build(variant(options.variant)).eval().to(device)
    work = Work.of(network, device)
    print("| way | side | batch | ms/image | ms/MP | TFLOP/s | of matrix rate | of copy bandwidth | MiB | PSNR dB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    # Ways that compile come last, so that they do not take the time of the others.
    for way in ways:
        for side in options.sizes:
            for batch in options.batches:
                if batch * side * side > LARGEST_RUN_PIXELS:
                    continue
                if time.monotonic() > deadline:
                    yield Row(way.name, side, batch, reason="out of time")
                else:
                    yield measure_one(way, network, photo_like(batch, side, device), limits, work)


def measure_one(way: Way, network: RestorationNetwork, image: Tensor, limits: Limits, work: Work) -> Row:
    batch, side, on_cuda = image.shape[0], image.shape[-1], image.device.type == "cuda"
    try:
        reference = network(image)
        if on_cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        run = way.build(network, image)
        seconds = seconds_of(run, image.device)
        psnr = psnr_between(reference, run())
    except UnavailableError as error:
        return Row(way.name, side, batch, reason=str(error))
    except torch.OutOfMemoryError:
        return Row(way.name, side, batch, reason="out of memory")
    except Exception as error:  # a failing way must not affect the others
        return Row(way.name, side, batch, reason=f"{type(error).__name__}: {str(error).splitlines()[0][:160]}")
    pixels = batch * side * side
    rate = work.flop_per_pixel * pixels / seconds / 1e12
    bytes_per_pixel = work.half_bytes_per_pixel if way.half else work.full_bytes_per_pixel
    return Row(
        way=way.name,
        side=side,
        batch=batch,
        ms_per_image=seconds * 1e3 / batch,
        ms_per_megapixel=seconds * 1e3 / (pixels / 1e6),
        tflop_per_s=rate,
        matrix_rate_share=rate / limits.matrix_tflop_per_s,
        copy_bandwidth_share=bytes_per_pixel * pixels / seconds / 1e9 / limits.copy_gb_per_s,
        peak_memory_mib=torch.cuda.max_memory_allocated() / 2**20 if on_cuda else math.nan,
        psnr_db=psnr,
    )


def measure_limits(device: torch.device) -> Limits:
    """Measure an FP16 matrix product (two operations per multiply-add) and a copy (each byte read and written)."""
    side = MATRIX_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).half() for _ in range(2))
    product_s = seconds_of(lambda: a @ b, device)
    source = torch.zeros(COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = seconds_of(lambda: target.copy_(source), device)
    return Limits(2 * side**3 / product_s / 1e12, 2 * source.numel() / copy_s / 1e9)


def photo_like(batch: int, side: int, device: torch.device) -> Tensor:
    """Return (N, 3, side, side) in [0, 1]: smooth shapes with a little noise, from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 9, 9, generator=generator)
    scene = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return (scene + 0.05 * torch.randn(scene.shape, generator=generator)).clamp(0, 1).to(device)


def psnr_between(reference: Tensor, output: Tensor) -> float:
    """Return the PSNR in dB for a range of one; equal outputs count as differing by one FP32 step."""
    mse = float((reference.double() - output.double()).square().mean())
    return -10 * math.log10(max(mse, torch.finfo(torch.float32).eps ** 2))


def run_gpu_tests() -> str:
    """Return the last line of `pytest -m gpu`, or why it did not run."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TEST_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"not finished after {TEST_TIMEOUT_S} s"
    lines = (ended.stdout or ended.stderr).strip().splitlines()
    return lines[-1] if lines else f"exit code {ended.returncode}"


def describe(device: torch.device, variant: str) -> dict[str, object]:
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"device": name, "cuda": torch.version.cuda, "variant": variant, "versions": versions}


def slug(device: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def format_row(row: Row) -> str:
    head = f"| {row.way} | {row.side} | {row.batch} |"
    if row.reason is not None:
        return f"{head} {row.reason} | | | | | | |"
    return (
        f"{head} {row.ms_per_image:.2f} | {row.ms_per_megapixel:.1f} | {row.tflop_per_s:.3f} "
        f"| {row.matrix_rate_share:.1%} | {row.copy_bandwidth_share:.1%} "
        f"| {row.peak_memory_mib:.0f} | {row.psnr_db:.1f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
