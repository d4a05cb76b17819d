"""The HttpServer: one process's server, and what it needs around it."""

import asyncio
import errno
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NoReturn, cast

import uvicorn
from prometheus_client import CollectorRegistry, start_http_server

from server import logs
from server.cli.draining_server import DrainingServer
from server.http.protocol.incoming import incoming
from server.http.protocol.shedding import SheddingProtocol
from server.http.service import Service
from server.settings import HttpSettings, Settings

log = logging.getLogger(__name__)

# Longer than proxies keep idle connections (about a minute): closing first would race with the next request.
KEEP_ALIVE_S = 75
# Each listener accepts one connection per loop iteration. With a single listener, a new connection would wait one
# iteration for each connection before it, and a health check could take seconds on a busy server.
LISTENERS = 32
# No request leaves a cycle that holds an upload or pixels (tests/integration/test_garbage.py), so the collector may
# look rarely: with Python's default of 700 it took 3 % of the processor time of tiny images.
COLLECT_AFTER_OBJECTS = 10_000
# After the drain only the last bytes of responses are in transit.
CLOSE_CONNECTIONS_S = 5


class HttpServer:
    """Serves an application until a signal, or the loss of all devices, has drained it.

    The constructor configures the logs of the process. `on_ready` and `on_second` are those of `DrainingServer`.
    """

    def __init__(
        self,
        app: Service,
        settings: Settings,
        on_ready: Callable[[], None] | None = None,
        on_second: Callable[[], None] | None = None,
    ) -> None:
        root = settings.http.root_path or ""
        connection = partial(SheddingProtocol, shedder=app.state.shedder, public_root=root)
        config = uvicorn.Config(
            app,
            http=cast(type[asyncio.Protocol], incoming(connection)),
            log_config=logs.config(settings.log_level),
            access_log=False,  # the request context logs requests, with more detail
            server_header=False,
            proxy_headers=False,  # nothing reads the address of a client, or the scheme
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=CLOSE_CONNECTIONS_S,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        logs.skip_unused_fields()
        state = app.state
        timeout_s = settings.http.drain_timeout_s
        self._server = DrainingServer(config, state.services.restorer, state.room, timeout_s, on_ready, on_second)

    def run(self, listener: socket.socket) -> None:
        """Serve to the end of the drain."""
        gc.freeze()  # start-up objects live forever, so garbage collection can skip them
        gc.set_threshold(COLLECT_AFTER_OBJECTS)
        self._server.run(sockets=[listener, *(listener.dup() for _ in range(LISTENERS - 1))])


def open_files(app: Service) -> None:
    """Open the jobs folder, the keys file and the port of gRPC early, to report what is unusable in one sentence."""
    services = app.state.services
    for part in (services.jobs, services.access, app.state.rpc):
        if part is not None:
            part.open()


def listen(http: HttpSettings) -> socket.socket:
    """Listen on the port of the settings, alone; raises OSError with a sentence."""
    try:
        return socket.create_server((http.host, http.port), family=_family(http), dualstack_ipv6=_takes_both(http))
    except OSError as error:
        raise OSError(_refusal(http, error)) from error


def share(http: HttpSettings) -> socket.socket:
    """Bind the port of the settings, without listening yet, beside other processes that share it.

    Raises OSError with a sentence.
    """
    shared = socket.socket(_family(http))
    try:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if _takes_both(http):
            shared.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        shared.bind((http.host, http.port))
    except OSError as error:
        shared.close()
        raise OSError(_refusal(http, error)) from error
    return shared


def announce(listener: socket.socket, settings: Settings) -> None:
    """Log where the server listens, and why it has its backend."""
    host, port = listener.getsockname()[:2]
    log.info("listening", extra={"host": host, "port": port})
    if (choice := settings.backend.choice) is not None:
        chosen = {"backend": choice.backend, "reason": choice.reason, "rejected": list(choice.rejected)}
        log.info("the backend was chosen automatically", extra=chosen)


@contextmanager
def serve_scrapes(http: HttpSettings, registry: CollectorRegistry) -> Iterator[None]:
    """Serve the metrics on a separate port in a thread during the block, if one is configured."""
    if http.metrics_port is None:
        yield
        return
    try:
        server, _ = start_http_server(http.metrics_port, http.host, registry)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"cannot serve metrics on {http.host} port {http.metrics_port}: {reason}") from error
    log.info("metrics listening", extra={"host": http.host, "port": server.server_port})
    yield
    server.shutdown()
    server.server_close()


def welcome(listener: socket.socket) -> str:
    """Return the welcome message: the server's URL, and how to send a photo."""
    url = _url(*listener.getsockname()[:2])
    return (
        f"promptir: serving at {url}\n"
        f"  in a browser   open {url}/ and drop a photo\n"
        f"  with curl      curl -F file=@photo.jpg {url}/restore -o restored.png\n"
        f"  all options    {url}/docs\n"
        "Press Ctrl-C to stop."
    )


def exit_at_once(code: int) -> NoReturn:
    """End the process without waiting for codec or library threads, whose results are no longer needed."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _takes_both(http: HttpSettings) -> bool:
    # `::` means all addresses, IPv4 included, as for gRPC and the metrics.
    return http.host == "::" and socket.has_dualstack_ipv6()


def _family(http: HttpSettings) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in http.host else socket.AF_INET


def _url(host: str, port: int) -> str:
    """Return the server's URL for a browser on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{host}:{port}"


def _refusal(http: HttpSettings, error: OSError) -> str:
    """Return why the server cannot listen, and the way out where another program has the port."""
    where = f"cannot listen on {http.host} port {http.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}, which is in use: choose another with --port or PROMPTIR_PORT"
    return f"{where}: {error.strerror or error}"
