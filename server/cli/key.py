"""`promptir key new`: an API key for a client, and its line for the keys file."""

import argparse
import sys
from typing import Any

from server.access.keys_file import Terms, new_key


def add_command(commands: Any) -> None:
    """Add `key` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser("key", help="make an API key")
    parser.add_argument("action", choices=["new"], help="new: print a key once, on stderr, and its line on stdout")
    parser.add_argument("--name", required=True, help="of the client: in logs and metrics, and jobs belong to it")
    parser.add_argument("--requests-per-minute", type=_positive, metavar="N", help="without it no limit")
    parser.add_argument("--megapixels-per-minute", type=_positive, metavar="N", help="without it no limit")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print both; the key is kept nowhere. Raises KeysUnavailable for a bad name."""
    key, line = new_key(arguments.name, Terms(arguments.requests_per_minute, arguments.megapixels_per_minute))
    print(key, file=sys.stderr)
    print(line)
    return 0


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return number
