"""Command `promptir-export tensorrt`: build a TensorRT plan from an ONNX artifact."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from models.plan_manifest import HardwareCompatibility, LayerTypes, PlanManifest

MEGABYTE = 10**6


def add_tensorrt_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand `tensorrt` and its options."""
    command = commands.add_parser("tensorrt", help="build a TensorRT plan folder from an ONNX artifact folder")
    command.add_argument("--onnx", type=Path, required=True, metavar="ARTIFACT", help="folder with model.onnx")
    command.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="created, or replaced once built")
    command.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="weights that the artifact was exported from, to measure the plan's parity on the GPU (default: "
        "weights.safetensors in ARTIFACT, if present)",
    )
    command.add_argument(
        "--profile",
        nargs="+",
        action="extend",
        default=[],
        metavar="MIN:OPT:MAX",
        help="shapes to build for, each as batch x height x width, such as 1x64x64:1x512x512:4x512x512; the server "
        "chooses the best match for each batch (default: small images in batches, large images alone)",
    )
    command.add_argument("--workspace-mb", type=int, metavar="MB", help="limit on the scratch memory of a kernel")
    command.add_argument(
        "--timing-cache", type=Path, metavar="FILE", help="file of kernel timings, reused by later builds"
    )
    command.add_argument("--optimisation-level", type=int, metavar="0-5", help="how long to search for fast kernels")
    command.add_argument(
        "--hardware-compatibility",
        choices=get_args(HardwareCompatibility),
        default="none",
        help="other GPUs the plan may run on, at some cost in speed (default: none)",
    )
    command.add_argument("--version-compatible", action="store_true", help="allow newer releases of this major version")
    command.set_defaults(run=_export_tensorrt)


def _export_tensorrt(options: argparse.Namespace) -> None:
    # imported here, so that --help and usage errors do not load torch
    from export.profiles import DEFAULT_PROFILES, parse_profile
    from export.to_tensorrt import build_options, export_plan

    profiles = tuple(parse_profile(text) for text in options.profile) or DEFAULT_PROFILES
    asked = build_options(
        workspace_mb=options.workspace_mb,
        optimisation_level=options.optimisation_level,
        hardware_compatibility=options.hardware_compatibility,
        version_compatible=options.version_compatible,
    )
    manifest = export_plan(options.onnx, options.output, profiles, asked, options.timing_cache, options.weights)
    for line in _layer_lines(manifest.layer_types):
        print(line)
    megabytes = (options.output / manifest.model_file).stat().st_size / MEGABYTE
    print(
        f"{options.output}: {manifest.variant}, {manifest.precision}, {manifest.flavour} {manifest.tensorrt_version}, "
        f"{manifest.device}, {len(profiles)} profiles, {megabytes:.1f} MB"
    )
    print(_parity_line(manifest))


def _parity_line(manifest: PlanManifest) -> str:
    if manifest.parity_unmeasured:
        return f"parity not measured: {manifest.parity_unmeasured}"
    worst = max(manifest.parity, key=lambda entry: entry.max_abs_error)
    shape = "x".join(map(str, worst.shape))
    return f"parity with float32 PyTorch: max abs error {worst.max_abs_error:.1e}, {worst.psnr_db:.1f} dB, at {shape}"


def _layer_lines(table: LayerTypes) -> Iterator[str]:
    width = max(map(len, table))
    for layer_type, counts in table.items():
        yield f"{layer_type:<{width}}  {', '.join(f'{count} {dtype}' for dtype, count in counts.items())}"
