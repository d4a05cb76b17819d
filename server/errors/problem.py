"""Problems: how errors of the tree are told to clients, by any protocol: a status of HTTP and RFC 9457 details."""

import math
from collections.abc import Mapping

from server import errors
from server.errors import PromptIRServeError

CLIENT_CLOSED_REQUEST = 499
"""Nginx's status for a client that has left: only logs and metrics read it."""

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
"""A class that is not listed has the status of its nearest listed ancestor."""

UNFORESEEN = "The server failed in a way it did not foresee. The log has the cause under this request's id."
"""What a client learns of an exception outside the tree: nothing about the inside of the server."""


def status_of(kind: type[PromptIRServeError]) -> int:
    """Return the HTTP status of an error class."""
    return next(STATUS[ancestor] for ancestor in kind.__mro__ if ancestor in STATUS)


def type_of(slug: str) -> str:
    """Return the URI of a problem type."""
    return f"urn:promptir:problem:{slug}"


def retry_after(error: PromptIRServeError) -> int | None:
    """Return the whole seconds after which a refused request would be taken; None if they are not known."""
    seconds = error.retry_after_s if isinstance(error, errors.Refused) else None
    # Rounded up: a client that comes back early is only refused again.
    return None if seconds is None else max(1, math.ceil(seconds))


def extensions_of(error: PromptIRServeError) -> dict[str, object]:
    """Return what a problem document says beyond the members of RFC 9457."""
    seconds = retry_after(error)
    return error.extensions if seconds is None else error.extensions | {"retry_after_s": seconds}


def problem_of(error: PromptIRServeError, instance: str) -> dict[str, object]:
    """Describe an error as a problem document; `instance` is the URI of this occurrence."""
    return document(status_of(type(error)), error.slug, error.title, error.detail, instance, extensions_of(error))


def document(
    status: int, slug: str, title: str, detail: str, instance: str, extensions: Mapping[str, object]
) -> dict[str, object]:
    """Put a problem document together; no extension replaces a member of RFC 9457."""
    members: dict[str, object] = {
        "type": type_of(slug),
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance,
    }
    return members | dict(extensions) | members  # in this order
