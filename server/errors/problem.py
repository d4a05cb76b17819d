"""Conversion of errors to an HTTP status and an RFC 9457 problem document, for all protocols."""

import math
from collections.abc import Mapping

from server import errors
from server.errors import PromptIRServeError

CLIENT_CLOSED_REQUEST = 499
"""Nginx's status for a disconnected client; it appears only in logs and metrics."""

STATUS: Mapping[type[PromptIRServeError], int] = {
    errors.InvalidRequest: 400,
    errors.EmptyUpload: 400,
    errors.AccessError: 500,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotAcceptable: 406,
    errors.NotOffered: 501,
    errors.UnknownModel: 404,
    errors.UnsupportedEncoding: 415,
    errors.UploadStalled: 408,
    errors.ImageTooLarge: 413,
    errors.UnsupportedImage: 415,
    errors.UndecodableImage: 422,
    errors.InvalidImage: 422,
    errors.QueueFull: 429,
    errors.QuotaExceeded: 429,
    errors.UnsupportedSize: 422,
    errors.UnknownJob: 404,
    errors.JobUnfinished: 409,
    errors.JobExpired: 410,
    errors.JobError: 500,
    errors.JobsOff: 501,
    errors.DiskFull: 507,
    errors.JobsUnavailable: 503,
    errors.BackendError: 500,
    errors.Draining: 503,
    errors.NotReady: 503,
    errors.Refused: 503,
    errors.DeadlineExceeded: 504,
    errors.DeviceOutOfMemory: 507,
    PromptIRServeError: 500,
}
"""Other classes have the status of their nearest listed ancestor."""

UNFORESEEN = "The server failed unexpectedly. The log has the cause under this request's id."
"""Detail for exceptions outside the tree; reveals nothing about the server."""


def status_of(kind: type[PromptIRServeError]) -> int:
    """Return the HTTP status of an error class."""
    return next(STATUS[ancestor] for ancestor in kind.__mro__ if ancestor in STATUS)


def type_of(slug: str) -> str:
    """Return the URI of a problem type."""
    return f"urn:promptir:problem:{slug}"


def retry_after(error: PromptIRServeError) -> int | None:
    """Return the whole seconds until a refused request may be retried; None if unknown."""
    seconds = error.retry_after_s if isinstance(error, errors.Refused) else None
    # Rounded up: an early retry would be refused again.
    return None if seconds is None else max(1, math.ceil(seconds))


def extensions_of(error: PromptIRServeError) -> dict[str, object]:
    """Return the members of a problem document that extend RFC 9457."""
    seconds = retry_after(error)
    return error.extensions if seconds is None else error.extensions | {"retry_after_s": seconds}


def problem_of(error: PromptIRServeError, instance: str) -> dict[str, object]:
    """Describe an error as a problem document; `instance` is the URI of this occurrence."""
    return document(status_of(type(error)), error.slug, error.title, error.detail, instance, extensions_of(error))


def document(
    status: int, slug: str, title: str, detail: str, instance: str, extensions: Mapping[str, object]
) -> dict[str, object]:
    """Build a problem document; extensions cannot replace members of RFC 9457."""
    members: dict[str, object] = {
        "type": type_of(slug),
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance,
    }
    return members | dict(extensions) | members  # in this order
