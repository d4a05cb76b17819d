"""Call log: the id, the duration, the count and the log line of each call."""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from server import logs
from server.errors import MemoryShort, PromptIRServeError
from server.errors.memory import NO_MEMORY, is_memory_short
from server.errors.problem import CLIENT_CLOSED_REQUEST, UNFORESEEN, status_of
from server.grpc.codes import code_of, detail_of, metadata_of
from server.metrics import Metrics

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"


class CallLog:
    """Answers the errors of calls with their status codes, and counts and logs how each call ended.

    A call counts under the HTTP status of its error, so that alerts and dashboards need no second list.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @asynccontextmanager
    async def call(self, context: Any, method: str) -> AsyncIterator[None]:
        """Run one call: its errors become its status, and it is counted and logged."""
        request_id = _request_id(context)
        logs.request_id.set(request_id)  # the call is a task of its own
        began = time.perf_counter()
        status, outcome = 200, "restored"
        ids = ((REQUEST_ID, request_id),)
        context.set_trailing_metadata(ids)
        try:
            yield
        except Exception as error:
            told = foreseen(error, method)
            status, outcome = status_of(type(told)), told.slug
            await context.abort(code_of(type(told)), detail_of(told), ids + metadata_of(told))
        except BaseException:  # cancelled: the client has left, or its deadline has passed
            status, outcome = CLIENT_CLOSED_REQUEST, "client-closed"
            raise
        finally:
            self.note(method, status, outcome, time.perf_counter() - began)

    @asynccontextmanager
    async def told(self, context: Any, method: str) -> AsyncIterator[None]:
        """Run a call that is too small to be counted: its errors become its status."""
        try:
            yield
        except Exception as error:
            told = foreseen(error, method)
            await context.abort(code_of(type(told)), detail_of(told))

    def note(self, method: str, status: int, outcome: str, seconds: float) -> None:
        """Count and log one answered request."""
        self._metrics.count_request(status, outcome)
        fields = {"method": "gRPC", "path": method, "status": status, "outcome": outcome}
        log.info("request", extra=fields | {"duration_ms": round(seconds * 1e3, 2)})


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
