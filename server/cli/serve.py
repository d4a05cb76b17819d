"""`promptir serve`: runs the HTTP server from start-up to the end of the drain."""

import argparse
import logging
import sys
from functools import partial
from typing import Any

from server.app import create_app
from server.cli.http_processes import serve_processes
from server.cli.http_server import HttpServer, announce, exit_at_once, listen, open_files, serve_scrapes, welcome
from server.cli.settings_flags import GROUPS, add_settings, settings_from
from server.errors import BackendUnavailable
from server.restore.allocator import limit_retained_memory

log = logging.getLogger(__name__)


def add_command(commands: Any) -> None:
    """Add `serve` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser("serve", help="serve restorations over HTTP")
    add_settings(parser, GROUPS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP, drain and exit with 0; a second signal ends the process at once.

    Raises OSError or BackendUnavailable if the server cannot start or has permanently lost all devices.
    """
    settings = settings_from(arguments)
    if settings.http.http_processes > 1:
        exit_at_once(serve_processes(settings))
    limit_retained_memory()
    listener = listen(settings.http)
    app = create_app(settings)
    open_files(app)
    on_ready = None
    if sys.stderr.isatty():
        on_ready = partial(print, welcome(listener), file=sys.stderr)
    server = HttpServer(app, settings, on_ready)
    with serve_scrapes(settings.http, app.state.services.metrics.registry):
        announce(listener, settings)
        if on_ready is not None:
            print("promptir: loading the model", file=sys.stderr)
        server.run(listener)
    if (failure := app.state.services.restorer.failure) is not None:
        raise BackendUnavailable(str(failure))
    log.info("stopped")
    exit_at_once(0)
