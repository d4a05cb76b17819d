"""Serving: from start-up to the end of the drain."""

import logging
import sys
from functools import partial
from typing import NoReturn

from server.app import create_app
from server.cli.http_processes import serve_processes
from server.cli.http_server import HttpServer, announce, exit_at_once, listen, open_files, serve_scrapes, welcome
from server.errors import BackendUnavailable
from server.restore.allocator import limit_retained_memory
from server.settings import Settings

log = logging.getLogger(__name__)


def serve(settings: Settings) -> NoReturn:
    """Serve until SIGTERM, SIGINT or SIGHUP, drain and exit with 0; a second signal ends the process at once.

    Raises OSError or BackendUnavailable if the server cannot start or has permanently lost all devices.
    """
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
