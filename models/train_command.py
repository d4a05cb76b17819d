"""The command `promptir-train`, which needs a checkout: the wheel does not contain the training code."""

import sys


def main() -> int:
    """Run the training command line; returns the exit code, 1 if this installation has no training code."""
    try:
        from models.training.cli import main as run
    except ModuleNotFoundError as error:
        needed = "a checkout of the repository" if str(error.name).startswith("models") else "the extra `train`"
        print(f"promptir-train needs {needed}: {error.name} is not installed.", file=sys.stderr)
        return 1
    return run()
