"""Argument parser that accepts positional arguments before, between and after flags, and its types of numbers."""

import argparse
import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return the argument type of whole numbers within these bounds."""
    words = f"of {least} or more" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"{text} is not a whole number {words}")
        return int(text)

    return read


def positive(text: str) -> float:
    """Read a finite number above 0."""
    if not (number := _number(text)) > 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def not_negative(text: str) -> float:
    """Read a finite number of 0 or more."""
    if not (number := _number(text)) >= 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number of 0 or more")
    return number


def _number(text: str) -> float:
    """Return a finite number; NaN for anything else."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


class CommandParser(argparse.ArgumentParser):
    """Parser of the arguments of one command.

    They may be intermixed: plain argparse rejects OUT in `IN --overwrite OUT`. Unknown ones are reported with the
    usage of the command, where argparse shows that of the program.
    """

    _is_inside = False

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse intermixed arguments; argparse calls this method for the chosen command."""
        if self._is_inside:
            return super().parse_known_args(args, namespace)
        self._is_inside = True  # parse_known_intermixed_args calls this method
        try:
            known, unknown = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_inside = False
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._hint(unknown[0])}")
        return known, unknown

    def _hint(self, unknown: str) -> str:
        options = [name for action in self._actions for name in action.option_strings]
        close = difflib.get_close_matches(unknown.partition("=")[0], options, 1)
        return f"; did you mean {close[0]}?" if close else ""
