"""Codes: gRPC status codes of errors, derived from their HTTP statuses."""

from collections.abc import Mapping

import grpc

from server.errors import PromptIRServeError
from server.errors.problem import retry_after, status_of

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
"""In characters: details travel in a header, percent-encoded, and clients limit the size of all headers."""

Metadata = tuple[tuple[str, str], ...]


def code_of(kind: type[PromptIRServeError]) -> grpc.StatusCode:
    """Return the status code of an error class."""
    return _CODES.get(status_of(kind), grpc.StatusCode.INTERNAL)


def detail_of(error: PromptIRServeError) -> str:
    """Return the message of an error, shortened to MAX_DETAIL."""
    return error.detail if len(error.detail) <= MAX_DETAIL else f"{error.detail[: MAX_DETAIL - 1]}…"


def metadata_of(error: PromptIRServeError) -> Metadata:
    """Return when to retry as trailing metadata: `retry-after` in seconds, and in the form that gRPC's retries obey."""
    seconds = retry_after(error)
    return () if seconds is None else (("retry-after", str(seconds)), ("grpc-retry-pushback-ms", str(seconds * 1000)))
