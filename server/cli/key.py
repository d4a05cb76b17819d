"""`promptir key`: generates API keys and lists clients' labels in the metrics."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from server.access.keys_file import Terms, new_key, read_keys
from server.cli.command_parser import positive


def add_command(commands: Any) -> None:
    """Add `key` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser("key", help="generate an API key, or list clients' labels")
    parser.add_argument(
        "action",
        choices=["new", "labels"],
        help="new: print a key to stderr and its line for the keys file to stdout; labels: print the clients' "
        "labels in the metrics",
    )
    parser.add_argument("--name", help="name of the client, for new; used in logs and as owner of jobs")
    parser.add_argument("--requests-per-minute", type=positive, metavar="N", help="quota (default: unlimited)")
    parser.add_argument("--megapixels-per-minute", type=positive, metavar="N", help="quota (default: unlimited)")
    parser.add_argument("--keys-file", type=Path, metavar="FILE", help="keys file to read, for labels")
    parser.set_defaults(run=partial(run, parser))


def run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Generate a key without storing it, or list labels; raises KeysUnavailable for a bad name or file."""
    if arguments.action == "labels":
        if arguments.keys_file is None:
            parser.error("labels needs --keys-file FILE")
        for name, label in read_keys(arguments.keys_file).labels().items():
            print(label, name)
        return 0
    if arguments.name is None:
        parser.error("new needs --name NAME")
    key, line = new_key(arguments.name, Terms(arguments.requests_per_minute, arguments.megapixels_per_minute))
    print(key, file=sys.stderr)
    print(line)
    return 0
