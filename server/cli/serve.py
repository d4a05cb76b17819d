"""`promptir serve`: runs the HTTP server from start-up to the end of the drain."""

import argparse
import asyncio
import errno
import gc
import logging
import os
import socket
import sys
from functools import partial
from typing import Any, NoReturn, cast
from wsgiref.simple_server import WSGIServer

import uvicorn
from prometheus_client import CollectorRegistry, start_http_server

from server import logs
from server.app import create_app
from server.cli.draining_server import DrainingServer
from server.cli.settings_flags import GROUPS, add_settings, settings_from
from server.errors import BackendUnavailable
from server.http.protocol.shedding import SheddingProtocol
from server.restore.allocator import limit_retained_memory
from server.restore.pipeline import Restorer
from server.settings import HttpSettings

log = logging.getLogger(__name__)

# Longer than proxies keep idle connections (about a minute): closing first would race with the next request.
KEEP_ALIVE_S = 75
# Each listener accepts one connection per loop iteration. With a single listener, a new connection would wait one
# iteration for each connection before it, and a health check could take seconds on a busy server.
LISTENERS = 32
# After the drain only the last bytes of responses are in transit.
CLOSE_CONNECTIONS_S = 5


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
    limit_retained_memory()
    listener = _listen(settings.http)
    app = create_app(settings)
    restorer: Restorer = app.state.services.restorer
    if (jobs := app.state.services.jobs) is not None:
        jobs.open()  # opened early to report an unusable folder in one sentence
    if (access := app.state.services.access) is not None:
        access.open()  # likewise for the keys file
    if (rpc := app.state.rpc) is not None:
        rpc.open()
    config = uvicorn.Config(
        app,
        http=cast(
            type[asyncio.Protocol],
            partial(SheddingProtocol, shedder=app.state.shedder, public_root=settings.http.root_path or ""),
        ),
        log_config=logs.config(settings.log_level),
        access_log=False,  # the request context logs requests, with more detail
        server_header=False,
        proxy_headers=False,  # nothing reads the address of a client, or the scheme
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CLOSE_CONNECTIONS_S,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    scrapes = _serve_scrapes(settings.http, app.state.services.metrics.registry)
    host, port = listener.getsockname()[:2]
    logs.skip_unused_fields()
    gc.freeze()  # start-up objects live forever, so garbage collection can skip them
    log.info("listening", extra={"host": host, "port": port})
    if (choice := settings.backend.choice) is not None:
        chosen = {"backend": choice.backend, "reason": choice.reason, "rejected": list(choice.rejected)}
        log.info("the backend was chosen automatically", extra=chosen)
    on_ready = None
    if sys.stderr.isatty():
        print("promptir: loading the model", file=sys.stderr)
        on_ready = partial(print, _welcome(_url(host, port)), file=sys.stderr)
    server = DrainingServer(config, restorer, app.state.room, settings.http.drain_timeout_s, on_ready)
    server.run(sockets=_accepting(listener))
    if scrapes is not None:
        scrapes.shutdown()
        scrapes.server_close()
    if restorer.failure is not None:
        raise BackendUnavailable(str(restorer.failure))
    log.info("stopped")
    exit_at_once(0)


def exit_at_once(code: int) -> NoReturn:
    """End the process without waiting for codec or library threads, whose results are no longer needed."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _serve_scrapes(http: HttpSettings, registry: CollectorRegistry) -> WSGIServer | None:
    """Serve the metrics on a separate port in a thread, if one is configured."""
    if http.metrics_port is None:
        return None
    try:
        server, _ = start_http_server(http.metrics_port, http.host, registry)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"cannot serve metrics on {http.host} port {http.metrics_port}: {reason}") from error
    log.info("metrics listening", extra={"host": http.host, "port": server.server_port})
    return server


def _welcome(url: str) -> str:
    """Format the welcome message: the server's URL, and how to send a photo."""
    return (
        f"promptir: serving at {url}\n"
        f"  in a browser   open {url}/ and drop a photo\n"
        f"  with curl      curl -F file=@photo.jpg {url}/restore -o restored.png\n"
        f"  all options    {url}/docs\n"
        "Press Ctrl-C to stop."
    )


def _accepting(listener: socket.socket) -> list[socket.socket]:
    return [listener, *(listener.dup() for _ in range(LISTENERS - 1))]


def _url(host: str, port: int) -> str:
    """Return the server's URL for a browser on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{host}:{port}"


def _listen(http: HttpSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    # `::` means all addresses, IPv4 included, as for gRPC and the metrics.
    both = http.host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((http.host, http.port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise OSError(_refusal(http, error)) from error


def _refusal(http: HttpSettings, error: OSError) -> str:
    """Return why the server cannot listen, and the way out where another program has the port."""
    where = f"cannot listen on {http.host} port {http.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}, which is in use: choose another with --port or PROMPTIR_PORT"
    return f"{where}: {error.strerror or error}"
