"""`promptir serve`: runs the HTTP server from start-up to the end of the drain."""

import argparse
from typing import Any, NoReturn

from server.cli.settings_flags import GROUPS, add_settings, settings_from


def add_command(commands: Any) -> None:
    """Add `serve` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser("serve", help="serve restorations over HTTP")
    add_settings(parser, GROUPS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> NoReturn:
    """Serve, as `server.cli.serving.serve` does; raises OSError or BackendUnavailable."""
    from server.cli.serving import serve  # imports FastAPI, for which the other commands need not wait

    serve(settings_from(arguments))
