"""`promptir key`: an API key for a client with its line for the keys file, and what the metrics call each client."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from server.access.keys_file import Terms, new_key, read_keys


def add_command(commands: Any) -> None:
    """Add `key` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser("key", help="make an API key")
    parser.add_argument(
        "action",
        choices=["new", "labels"],
        help="new: print a key once, on stderr, and its line on stdout; labels: each client's label in the metrics",
    )
    parser.add_argument("--name", help="of the client, for new: in logs, and jobs belong to it")
    parser.add_argument("--requests-per-minute", type=_positive, metavar="N", help="without it no limit")
    parser.add_argument("--megapixels-per-minute", type=_positive, metavar="N", help="without it no limit")
    parser.add_argument("--keys-file", type=Path, metavar="FILE", help="whose clients are labelled, for labels")
    parser.set_defaults(run=partial(run, parser))


def run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Make a key, which is kept nowhere, or list labels. Raises KeysUnavailable for a bad name or file."""
    if arguments.action == "labels":
        if arguments.keys_file is None:
            parser.error("labels asks for --keys-file FILE")
        for name, label in read_keys(arguments.keys_file).labels().items():
            print(label, name)
        return 0
    if arguments.name is None:
        parser.error("new asks for --name NAME")
    key, line = new_key(arguments.name, Terms(arguments.requests_per_minute, arguments.megapixels_per_minute))
    print(key, file=sys.stderr)
    print(line)
    return 0


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return number
