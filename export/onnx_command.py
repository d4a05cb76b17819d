"""Command `promptir-export onnx`: convert a weights file to an ONNX artifact."""

import argparse
from pathlib import Path


def add_onnx_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand `onnx` and its options."""
    command = commands.add_parser("onnx", help="write an ONNX artifact folder, verified against PyTorch")
    command.add_argument("--weights", type=Path, required=True, metavar="FILE", help=".ckpt, .pt, .pth or .safetensors")
    command.add_argument("--variant", required=True, metavar="NAME", help="network variant, such as promptnaf")
    command.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="created, or replaced once the export is verified"
    )
    command.add_argument(
        "--precision",
        choices=("fp32", "mixed"),
        default="fp32",
        help="mixed is float16 with float32 islands, for TensorRT and GPUs; a CPU runs fp32 faster (default: fp32)",
    )
    command.add_argument(
        "--masked",
        action="store_true",
        help="add inputs for each image's height and width, which allow mixed-size batches",
    )
    command.add_argument("--opset", type=int, help="ONNX opset, 17 to 20 (default: the tested one)")
    command.set_defaults(run=_export_onnx)


def _export_onnx(options: argparse.Namespace) -> None:
    from export.to_onnx import (
        DEFAULT_OPSET,
        export_onnx,
    )  # here: --help must not load torch

    opset = options.opset or DEFAULT_OPSET
    manifest = export_onnx(
        options.weights, options.variant, options.output, opset, options.precision, masked=options.masked
    )
    worst = max(entry.max_abs_error for entry in manifest.parity)
    kind = "masked, " if manifest.size_inputs else ""
    print(f"{options.output}: {manifest.variant}, {kind}{manifest.parameters} parameters, max abs error {worst:.1e}")
