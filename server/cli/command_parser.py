"""The command parser: argparse that takes files before, between and after the flags."""

import argparse
from collections.abc import Sequence
from typing import Any


class CommandParser(argparse.ArgumentParser):
    """Without it a list of files must stand in one piece: `IN --overwrite OUT` would lose OUT."""

    _is_inside = False

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's own, which calls this one of the command that was named."""
        if self._is_inside:
            return super().parse_known_args(args, namespace)
        self._is_inside = True  # the other form is made of this one
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_inside = False
