"""Stages of a GPU window on the networks alone: the device's own limits, and each way to run each network."""

import importlib.metadata
import math
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
from gpu_results import Options, Results, Size, size_name
from gpu_ways import UnavailableError, Way, compiled_ways, eager_ways, fused_ways, seconds_of
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from models.artifact import DEFAULT_ARTIFACT
from models.checkpoint import load_network
from models.restoration import RestorationNetwork
from models.variants import build, variant

ROOT = Path(__file__).resolve().parent.parent
SHIPPED_VARIANT, SHIPPED_WEIGHTS = "promptnaf", DEFAULT_ARTIFACT / "weights.safetensors"
COUNTED_SIDE = 128
LARGEST_RUN_PIXELS = 4_194_303
MATRIX_SIDE = {"cuda": 8192, "cpu": 256}
COPY_BYTES = {"cuda": 2**30, "cpu": 2**22}
LIBRARIES = ("torch", "triton", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "numpy", "fastapi")
NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader")


def machine(options: Options, results: Results) -> None:
    """Describe the machine, and measure the device's rates of an FP16 matrix product and of a memory copy."""
    device = torch.device(options.device)
    side = MATRIX_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).half() for _ in range(2))
    product_s = seconds_of(lambda: a @ b, device, briefly=options.dry_run)
    source = torch.zeros(COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = seconds_of(lambda: target.copy_(source), device, briefly=options.dry_run)
    results.add(
        device=torch.cuda.get_device_name(device) if options.on_cuda else "cpu",
        driver=_first_line(NVIDIA_SMI) if options.on_cuda else None,
        commit=_first_line(("git", "-C", str(ROOT), "rev-parse", "HEAD")),
        python=platform.python_version(),
        cuda=torch.version.cuda,
        matrix_tflop_per_s=2 * side**3 / product_s / 1e12,
        copy_gb_per_s=2 * source.numel() / copy_s / 1e9,
        **{library: version for library in LIBRARIES if (version := _version(library)) is not None},
    )


def modules(options: Options, results: Results) -> None:
    """Time every way that needs no compilation."""
    _measure(options, results, eager_ways())


def fused(options: Options, results: Results) -> None:
    """Time the fused kernels."""
    _measure(options, results, fused_ways())


def compiled(options: Options, results: Results) -> None:
    """Time torch.compile, which takes a minute a shape; in a dry run without the compiler itself."""
    _measure(options, results, compiled_ways("eager" if options.dry_run else "inductor"))


def network_of(name: str, device: torch.device) -> RestorationNetwork:
    """Build a network on the device: with the shipped weights if it is the shipped one, else with random ones."""
    torch.manual_seed(0)
    shipped = name == SHIPPED_VARIANT and SHIPPED_WEIGHTS.exists()
    network = load_network(SHIPPED_WEIGHTS, variant(name)) if shipped else build(variant(name))
    return network.eval().to(device)


def photo_like(batch: int, size: Size, device: torch.device) -> Tensor:
    """Generate (N, 3, H, W) in [0, 1]: smooth shapes with a little noise, always the same."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 9, 9, generator=generator)
    scene = torch.nn.functional.interpolate(coarse, size, mode="bicubic")
    return (scene + 0.05 * torch.randn(scene.shape, generator=generator)).clamp(0, 1).to(device)


def psnr_between(reference: Tensor, output: Tensor) -> float:
    """Return the PSNR in dB for a range of one; equal outputs count as one FP32 step apart."""
    mse = float((reference.double() - output.double()).square().mean())
    return -10 * math.log10(max(mse, torch.finfo(torch.float32).eps ** 2))


def _measure(options: Options, results: Results, ways: list[Way]) -> None:
    device = torch.device(options.device)
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    with torch.inference_mode():
        for name in options.variants:
            network = network_of(name, device)
            flop = _flop_per_pixel(network, device)
            for size in options.sizes:
                for batch in sorted({1, options.batch}):
                    if batch * size[0] * size[1] > LARGEST_RUN_PIXELS:
                        continue
                    image = photo_like(batch, size, device)
                    try:
                        reference = network(image)
                    except torch.OutOfMemoryError:
                        results.add(network=name, size=size_name(size), batch=batch, reason="out of memory in FP32")
                        continue
                    for way in ways:
                        row = {"network": name, "way": way.name, "size": size_name(size), "batch": batch}
                        if options.is_over:
                            results.add(**row, reason="out of time")
                            continue
                        figures = _figures(way, network, image, reference, briefly=options.dry_run)
                        if "ms_per_image" in figures:
                            figures["tflop_per_s"] = flop * size[0] * size[1] / figures["ms_per_image"] / 1e9
                        results.add(**row, **figures)


def _figures(
    way: Way, network: RestorationNetwork, image: Tensor, reference: Tensor, *, briefly: bool
) -> dict[str, Any]:
    """Time one way, or say why it cannot run: one failure must not prevent the other measurements."""
    on_cuda = image.device.type == "cuda"
    try:
        if on_cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        run = way.build(network, image)
        seconds = seconds_of(run, image.device, briefly=briefly)
        psnr = psnr_between(reference, run())
    except UnavailableError as error:
        return {"reason": str(error)}
    except torch.OutOfMemoryError:
        return {"reason": "out of memory"}
    except Exception as error:
        return {"reason": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"}
    return {
        "ms_per_image": seconds * 1e3 / len(image),
        "psnr_db": psnr,
        "peak_memory_mib": torch.cuda.max_memory_allocated() / 2**20 if on_cuda else None,
    }


def _flop_per_pixel(network: RestorationNetwork, device: torch.device) -> float:
    """Count on a small image, because everything except the weights is linear in the pixels."""
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, COUNTED_SIDE, COUNTED_SIDE, device=device))
    return float(counter.get_total_flops()) / COUNTED_SIDE**2


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first_line(command: tuple[str, ...]) -> str | None:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return (ended.stdout.splitlines() or [None])[0]
