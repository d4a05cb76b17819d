"""Call log: the id, the duration, the count and the log line of each call."""

import logging
import time
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from server import logs
from server.errors import MemoryShort, PromptIRServeError
from server.errors.memory import NO_MEMORY, drop_frames, is_memory_short
from server.errors.problem import CLIENT_CLOSED_REQUEST, UNFORESEEN, status_of
from server.grpc.codes import Metadata, code_of, detail_of, metadata_of
from server.metrics import Metrics

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"


class CallLog:
    """Answers the errors of calls with their status codes, and counts and logs how each call ended.

    A call counts under the HTTP status of its error, so that alerts and dashboards need no second list.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def call(self, context: Any, method: str) -> AbstractAsyncContextManager[None]:
        """Run one call: its errors become its status, and it is counted and logged."""
        return _Call(self, context, method, is_counted=True)

    def told(self, context: Any, method: str) -> AbstractAsyncContextManager[None]:
        """Run a call that is too small to be counted: its errors become its status."""
        return _Call(self, context, method, is_counted=False)

    def note(self, method: str, status: int, outcome: str, seconds: float) -> None:
        """Count and log one answered request."""
        self._metrics.count_request(status, outcome)
        fields = {"method": "gRPC", "path": method, "status": status, "outcome": outcome}
        log.info("request", extra=fields | {"duration_ms": round(seconds * 1e3, 2)})


class _Call:
    """One call, from entry to exit.

    Not a generator: gRPC keeps the exception that ends a call, and with it the frames that it passed. A frame of
    contextlib among them would keep those of the original error, and the message in their variables.
    """

    def __init__(self, calls: CallLog, context: Any, method: str, *, is_counted: bool) -> None:
        self._calls = calls
        self._context = context
        self._method = method
        self._is_counted = is_counted
        self._ids: Metadata = ()
        self._began = time.perf_counter()

    async def __aenter__(self) -> None:
        if self._is_counted:
            request_id = _request_id(self._context)
            logs.request_id.set(request_id)  # the call is a task of its own
            self._ids = ((REQUEST_ID, request_id),)
            self._context.set_trailing_metadata(self._ids)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        del frames
        status, outcome = 200, "restored"
        try:
            if isinstance(error, Exception):
                told = foreseen(error, self._method)
                status, outcome = status_of(type(told)), told.slug
                drop_frames(error)
                trailing = (*self._ids, *metadata_of(told)) if self._is_counted else ()
                await self._context.abort(code_of(type(told)), detail_of(told), trailing)
            elif error is not None:  # cancelled: the client has left, or its deadline has passed
                status, outcome = CLIENT_CLOSED_REQUEST, "client-closed"
        finally:
            if self._is_counted:
                self._calls.note(self._method, status, outcome, time.perf_counter() - self._began)


def foreseen(error: Exception, method: str) -> PromptIRServeError:
    """Return the error of the tree that a client is told; log the cause of an unforeseen exception."""
    if isinstance(error, PromptIRServeError):
        return error
    if is_memory_short(error):  # the traceback would say little
        log.error("a call found no memory", extra={"method": method})
        return MemoryShort(NO_MEMORY)
    log.exception("a call failed unexpectedly", extra={"method": method})
    return PromptIRServeError(UNFORESEEN)


def _request_id(context: Any) -> str:
    return logs.request_id_from(value for key, value in context.invocation_metadata() or () if key == REQUEST_ID)
