"""The command `promptir-train`, which needs a checkout: the built wheel carries no training."""

import sys


def main() -> int:
    """Run the training command line; returns the exit code, 1 if training is not part of this installation."""
    try:
        from models.training.cli import main as run
    except ModuleNotFoundError as error:
        needed = "a checkout of the repository" if str(error.name).startswith("models") else "the extra `train`"
        print(f"promptir-train needs {needed}: {error.name} is not installed.", file=sys.stderr)
        return 1
    return run()
