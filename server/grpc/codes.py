"""Codes: the errors of the server as gRPC tells them, from the one table of their HTTP statuses."""

import math
from collections.abc import Mapping

import grpc

from server.errors import PromptIRServeError, Refused
from server.http.error_responses import status_of

_CODES: Mapping[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.INVALID_ARGUMENT,  # too large at any time, unlike what is exhausted now
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

MAX_DETAIL = 500
"""Characters: details travel in a header, percent-encoded, and clients bound all headers together."""

Metadata = tuple[tuple[str, str], ...]


def code_of(kind: type[PromptIRServeError]) -> grpc.StatusCode:
    """The status code of an error class."""
    return _CODES.get(status_of(kind), grpc.StatusCode.INTERNAL)


def detail_of(error: PromptIRServeError) -> str:
    """What is said of an error, cut to a bounded length."""
    return error.detail if len(error.detail) <= MAX_DETAIL else f"{error.detail[: MAX_DETAIL - 1]}…"


def metadata_of(error: PromptIRServeError) -> Metadata:
    """When to come back: in the words of HTTP, and in those that gRPC's own retries obey."""
    after_s = error.retry_after_s if isinstance(error, Refused) else None
    if after_s is None:
        return ()
    seconds = max(1, math.ceil(after_s))
    return ("retry-after", str(seconds)), ("grpc-retry-pushback-ms", str(seconds * 1000))
