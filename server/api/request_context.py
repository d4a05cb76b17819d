"""Request context: the id, the clock and the one log line of a request."""

import logging
import re
import time
import uuid
from collections.abc import Callable

from fastapi import Request, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server import logs
from server.metrics import Metrics

log = logging.getLogger(__name__)

REQUEST_ID_HEADER = "X-Request-ID"
TIMING_HEADER = "Server-Timing"

# What a proxy may have given it: safe in a header, in a log line and in a URI.
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_OUTCOME = "promptir_outcome"


def note_outcome(scope: Scope, outcome: str) -> None:
    """Name how the request ended (`restored`, a problem's slug, `client-closed`) for its log line and the metrics."""
    scope[_OUTCOME] = outcome


class RequestContext:
    """ASGI middleware, the outermost: everything inside can fail and is still answered, timed, counted and logged.

    `on_crash` makes the response to an exception that nothing inside has handled.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, on_crash: Callable[[Request], Response]) -> None:
        self._app = app
        self._metrics = metrics
        self._on_crash = on_crash

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = _request_id(scope)
        token = logs.request_id.set(request_id)
        status: int | None = None

        async def send_with_context(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID_HEADER] = request_id
                stages = [headers[TIMING_HEADER]] if TIMING_HEADER in headers else []
                total = f"total;dur={(time.perf_counter() - began) * 1e3:.2f}"
                headers[TIMING_HEADER] = ", ".join([*stages, total])
            await send(message)

        try:
            await self._app(scope, receive, send_with_context)
        except Exception:
            log.exception("a request failed unexpectedly", extra={"path": scope["path"], "failed_request": request_id})
            if status is not None:  # the answer has begun: only breaking the connection can tell the client
                raise
            await self._on_crash(Request(scope))(scope, receive, send_with_context)
        finally:
            self._report(scope, status, time.perf_counter() - began)
            logs.request_id.reset(token)

    def _report(self, scope: Scope, status: int | None, seconds: float) -> None:
        outcome = scope.get(_OUTCOME)
        if outcome is not None and status is not None:
            self._metrics.count_request(status, outcome)
        log.log(
            logging.INFO if outcome is not None else logging.DEBUG,  # probes and scrapes would drown the rest
            "request",
            extra={
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "outcome": outcome,
                "duration_ms": round(seconds * 1e3, 2),
            },
        )


def _request_id(scope: Scope) -> str:
    wanted = REQUEST_ID_HEADER.lower().encode()
    for name, value in scope["headers"]:
        given: str = value.decode("latin-1")
        if name == wanted and _SANE_ID.fullmatch(given):
            return given
    return uuid.uuid4().hex
