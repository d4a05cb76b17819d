"""The command line `promptir-export`."""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PROGRAM = "promptir-export"
REPORTING_PACKAGES = ("export", "models")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it worked, 1 with one sentence on stderr if it did not, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    with _progress_on_stderr():
        try:
            _export_onnx(options)
        except ModuleNotFoundError as error:
            return _fail(f"{error.name} is not installed; install the extras 'export' and 'cpu' (or 'gpu')")
        except (ValueError, OSError) as error:
            return _fail(str(error))
        except KeyboardInterrupt:
            return _fail("interrupted; nothing was written")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(PROGRAM, description="Turn trained weights into artifacts that the server loads.")
    commands = parser.add_subparsers(title="commands", required=True)
    onnx = commands.add_parser("onnx", help="write an ONNX artifact folder, verified against PyTorch")
    onnx.add_argument("--weights", type=Path, required=True, metavar="FILE", help=".ckpt, .pt, .pth or .safetensors")
    onnx.add_argument("--variant", required=True, metavar="NAME", help="the network's size, such as promptir-compact")
    onnx.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="created, or replaced when verified")
    onnx.add_argument("--opset", type=int, help="ONNX opset, 17 to 20; left out, the proven one")
    return parser


def _export_onnx(options: argparse.Namespace) -> None:
    from export.to_onnx import DEFAULT_OPSET, export_onnx  # here, so that --help and usage errors wait for no torch

    manifest = export_onnx(options.weights, options.variant, options.output, options.opset or DEFAULT_OPSET)
    worst = max(entry.max_abs_error for entry in manifest.parity)
    print(f"{options.output}: {manifest.variant}, {manifest.parameters} parameters, max abs error {worst:.1e}")


def _fail(sentence: str) -> int:
    print(f"{PROGRAM}: {sentence}", file=sys.stderr)
    return 1


@contextmanager
def _progress_on_stderr() -> Iterator[None]:
    handler = logging.StreamHandler()
    loggers = [logging.getLogger(package) for package in REPORTING_PACKAGES]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


if __name__ == "__main__":
    sys.exit(main())
