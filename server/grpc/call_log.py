"""Call log: the id, the clock, the count and the one log line of a call, as the request context has them for HTTP."""

import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from server import logs
from server.errors import MemoryShort, PromptIRServeError
from server.errors.memory import NO_MEMORY, is_memory_short
from server.grpc.codes import code_of, detail_of, metadata_of
from server.http.error_responses import CLIENT_CLOSED_REQUEST, status_of
from server.http.middleware.request_context import SANE_ID
from server.metrics import Metrics

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
_UNFORESEEN = "The server failed in a way it did not foresee. The log has the cause under this request's id."


class CallLog:
    """Answers what a call raises with its status code, and counts and logs how each one ended.

    Calls count under the HTTP status that the same error has there, so that rules and dashboards need no second list.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @asynccontextmanager
    async def call(self, context: Any, method: str) -> AsyncIterator[None]:
        """A block that ends the call by its errors."""
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
        """A block that ends a call by its errors, and is too small to be counted."""
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
    """The error of the tree that an exception is told as; the log has the cause of one that nobody foresaw."""
    if isinstance(error, PromptIRServeError):
        return error
    if is_memory_short(error):  # where it was met says little
        log.error("a call found no memory", extra={"method": method})
        return MemoryShort(NO_MEMORY)
    log.exception("a call failed unexpectedly", extra={"method": method})
    return PromptIRServeError(_UNFORESEEN)


def _request_id(context: Any) -> str:
    given = next((value for key, value in context.invocation_metadata() or () if key == REQUEST_ID), "")
    return given if SANE_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
