"""`promptir serve`: the HTTP server, from the open port to the end of the drain."""

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from functools import partial
from types import FrameType
from typing import Any, NoReturn, cast
from wsgiref.simple_server import WSGIServer

import uvicorn
from prometheus_client import CollectorRegistry, start_http_server

from server import logs
from server.api.shedding_protocol import SheddingProtocol
from server.app import create_app
from server.cli.allocator import keep_little
from server.cli.settings_flags import GROUPS, add_settings, settings_from
from server.errors import BackendUnavailable
from server.restorer import Restorer
from server.settings import HttpSettings

log = logging.getLogger(__name__)

# A proxy keeps idle connections for about a minute; the side that closes first races with the next request.
KEEP_ALIVE_S = 75
# Each takes one connection at a turn of the loop. With a single one, new connections wait as many turns as there are
# before them: a health check could take seconds on a busy server.
LISTENERS = 32
# The shells' convention for a process that a signal ended.
SIGNALLED = 128
# After the drain only the last bytes of responses are still on their way.
CLOSE_CONNECTIONS_S = 5


def add_command(commands: Any) -> None:
    """Add `serve` to the command line."""
    parser: argparse.ArgumentParser = commands.add_parser("serve", help="serve restorations over HTTP")
    add_settings(parser, GROUPS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, and 0 after the drain; a second one ends the process at once, with 143 or 130.

    Raises OSError or BackendUnavailable with a sentence if it cannot start, or has lost its devices for good.
    """
    settings = settings_from(arguments)
    keep_little()
    listener = _listen(settings.http)
    app = create_app(settings)
    restorer: Restorer = app.state.services.restorer
    if (jobs := app.state.services.jobs) is not None:
        jobs.open()  # here, for a folder that cannot be used to be said in one sentence
    if (access := app.state.services.access) is not None:
        access.open()  # likewise
    if (rpc := app.state.rpc) is not None:
        rpc.open()
    config = uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], partial(SheddingProtocol, shedder=app.state.shedder)),
        log_config=logs.config(settings.log_level),
        access_log=False,  # the request context logs each request, with more to say
        server_header=False,
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=CLOSE_CONNECTIONS_S,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    scrapes = _serve_scrapes(settings.http, app.state.services.metrics.registry)
    host, port = listener.getsockname()[:2]
    logs.quicken()
    gc.freeze()  # what the start made stays for good: no collection need walk it again
    log.info("listening", extra={"host": host, "port": port})
    DrainingServer(config, restorer, settings.http.drain_timeout_s).run(sockets=_accepting(listener))
    if scrapes is not None:
        scrapes.shutdown()
        scrapes.server_close()
    if restorer.failure is not None:
        raise BackendUnavailable(str(restorer.failure))
    log.info("stopped")
    if restorer.is_busy:
        leave(0)
    return 0


def leave(code: int) -> NoReturn:
    """End the process without waiting for threads: what a codec still makes has nobody left to take it."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class DrainingServer(uvicorn.Server):
    """uvicorn that keeps listening while it drains, so that readiness can be seen to be gone.

    The first SIGTERM or SIGINT starts the drain, a second one ends the process. A pool of devices that has failed is
    drained as well: one device that did not start must not cut off what another one runs.
    """

    def __init__(self, config: uvicorn.Config, restorer: Restorer, drain_timeout_s: float) -> None:
        super().__init__(config)
        self._restorer = restorer
        self._drain_timeout_s = drain_timeout_s
        self._drain_until: float | None = None
        self._signalled = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start the drain; uvicorn would close the port at once and end the process by the signal."""
        if self._signalled:
            # Not by the signal itself, which has no effect on the first process of a container.
            os._exit(SIGNALLED + sig)
        self._signalled = True
        log.info("draining", extra={"signal": signal.Signals(sig).name, "active": self._restorer.active})
        self._drain()

    def _drain(self) -> None:
        if self._drain_until is None:
            self._restorer.drain()
            self._drain_until = time.monotonic() + self._drain_timeout_s

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to stop now."""
        if await super().on_tick(counter):
            return True
        if self._restorer.failure is not None:
            self._drain()
        if self._drain_until is None:
            return False
        return self._restorer.active == 0 or time.monotonic() >= self._drain_until

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop the backend first: whoever is still waiting gets an answer before the connections close."""
        left_s = 0.0 if self._drain_until is None else max(0.0, self._drain_until - time.monotonic())
        await self._restorer.stop(left_s)
        await super().shutdown(sockets)


def _serve_scrapes(http: HttpSettings, registry: CollectorRegistry) -> WSGIServer | None:
    """Serve the metrics on their own port, where one is asked for, from a thread of its own."""
    if http.metrics_port is None:
        return None
    try:
        server, _ = start_http_server(http.metrics_port, http.host, registry)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"cannot serve metrics on {http.host} port {http.metrics_port}: {reason}") from error
    log.info("metrics listening", extra={"host": http.host, "port": server.server_port})
    return server


def _accepting(listener: socket.socket) -> list[socket.socket]:
    return [listener, *(listener.dup() for _ in range(LISTENERS - 1))]


def _listen(http: HttpSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    try:
        return socket.create_server((http.host, http.port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"cannot listen on {http.host} port {http.port}: {reason}") from error
