"""Command line `promptir-export`."""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from export.onnx_command import add_onnx_command
from export.tensorrt_command import add_tensorrt_command
from export.verify_command import add_verify_command

PROGRAM = "promptir-export"
COMMANDS = (add_onnx_command, add_tensorrt_command, add_verify_command)
"""Each function declares one subcommand and sets its `run`, which imports heavy libraries lazily."""

REPORTING_PACKAGES = ("export", "models")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 on success, 1 on failure (with one sentence on stderr) and 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    with _progress_on_stderr():
        try:
            options.run(options)
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
    for add_command in COMMANDS:
        add_command(commands)
    return parser


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
