"""Request context: the id, the duration and the log line of each request."""

import logging
import time
from collections.abc import Callable, Collection, Iterable

from fastapi import Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server import logs
from server.errors.memory import is_memory_short
from server.http.middleware.privacy import kept_private
from server.http.scope import caller_of, outcome_of
from server.logs import shortened
from server.metrics import Metrics
from server.tracing import RequestTrace, Tracing, current

log = logging.getLogger(__name__)

REQUEST_ID = b"x-request-id"
SERVER_TIMING = b"server-timing"


class RequestContext:
    """The outermost middleware: whatever fails inside is still answered, timed, counted and logged.

    `on_crash` makes the response to an exception that was not handled inside.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        on_crash: Callable[[Request, Exception], Response],
        tracing: Tracing | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._on_crash = on_crash
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = request_id_of(scope["headers"])
        token = logs.request_id.set(request_id)
        trace = None if self._tracing is None else self._begin_trace(self._tracing, scope, request_id)
        status: int | None = None
        seconds = 0.0

        async def send_with_context(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status = message["status"]
                seconds = time.perf_counter() - began
                message["headers"] = kept_private(_with_context(message.get("headers", ()), request_id, seconds))
            await send(message)

        try:
            await self._app(scope, receive, send_with_context)
        except Exception as error:
            told = {"path": shortened(scope["path"]), "failed_request": request_id}
            if is_memory_short(error):  # the traceback would say little
                log.error("a request found no memory", extra=told)
            else:
                log.exception("a request failed unexpectedly", extra=told)
            if status is not None:  # the answer has begun: only a broken connection tells the client
                raise
            await self._on_crash(Request(scope), error)(scope, receive, send_with_context)
        finally:
            self._report(scope, status, seconds if status is not None else time.perf_counter() - began)
            if trace is not None:
                trace.end(scope, status, outcome_of(scope))
                logs.trace_id.set(None)
                current.set(None)
            logs.request_id.reset(token)

    def _begin_trace(self, tracing: Tracing, scope: Scope, request_id: str) -> RequestTrace:
        trace = tracing.begin(scope, request_id)
        logs.trace_id.set(trace.trace_id)
        current.set(trace)
        return trace

    def _report(self, scope: Scope, status: int | None, seconds: float) -> None:
        outcome = outcome_of(scope)
        if outcome is not None and status is not None:
            self._metrics.count_request(status, outcome)
        # Probes and scrapes are logged at a lower level, or they would drown the rest.
        level = logging.INFO if outcome is not None else logging.DEBUG
        if not log.isEnabledFor(level):
            return
        extra = {
            "method": scope["method"],
            "path": shortened(scope["path"]),
            "status": status,
            "outcome": outcome,
            "duration_ms": round(seconds * 1e3, 2),
        }
        if (caller := caller_of(scope)) is not None:
            extra["key"] = caller.name
        log.log(level, "request", extra=extra)


def _with_context(headers: Iterable[tuple[bytes, bytes]], request_id: str, seconds: float) -> list[tuple[bytes, bytes]]:
    timing = b"total;dur=%.2f" % (seconds * 1e3)
    kept = list(headers)
    if (stages := dict(kept).get(SERVER_TIMING)) is not None:
        kept.remove((SERVER_TIMING, stages))
        timing = b"%b, %b" % (stages, timing)
    return [*kept, (REQUEST_ID, request_id.encode()), (SERVER_TIMING, timing)]


def request_id_of(headers: Collection[tuple[bytes, bytes]]) -> str:
    """Return the id that came with a request if it is safe to use, otherwise a new one."""
    if REQUEST_ID not in dict(headers):  # nearly always
        return logs.request_id_from(())
    return logs.request_id_from([value.decode("latin-1") for name, value in headers if name == REQUEST_ID])
