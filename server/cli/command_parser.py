"""Argument parser that accepts positional arguments before, between and after flags."""

import argparse
from collections.abc import Sequence
from typing import Any


class CommandParser(argparse.ArgumentParser):
    """Parser of intermixed arguments; plain argparse rejects OUT in `IN --overwrite OUT`."""

    _is_inside = False

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse intermixed arguments; argparse calls this method for the chosen command."""
        if self._is_inside:
            return super().parse_known_args(args, namespace)
        self._is_inside = True  # parse_known_intermixed_args calls this method
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_inside = False
