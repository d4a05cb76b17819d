"""Error responses: the one table from errors to HTTP, and the problem documents made from it."""

import http
import math
from collections.abc import Mapping
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from server import errors, logs
from server.errors import PromptIRServeError
from server.errors.memory import NO_MEMORY, is_memory_short
from server.http.middleware import request_context
from server.http.middleware.methods import methods_of
from server.http.open_inference.errors import is_open_inference
from server.http.restore import options
from server.logs import shortened

MEDIA_TYPE = "application/problem+json"
CLIENT_CLOSED_REQUEST = 499  # nginx's: nobody reads it, but logs and metrics do

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
"""A class that is not listed has the status of the nearest listed one above it."""


def status_of(kind: type[PromptIRServeError]) -> int:
    """The HTTP status of an error class."""
    return next(STATUS[ancestor] for ancestor in kind.__mro__ if ancestor in STATUS)


def openapi_responses(*kinds: type[PromptIRServeError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of a route that can raise these errors; the schema is `Problem`, by reference."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status = status_of(kind)
        meaning = f"**{kind.title}** (`{_type_of(kind.slug)}`). {(kind.__doc__ or '').strip().splitlines()[0]}"
        if status in responses:
            responses[status]["description"] += f"\n\n{meaning}"
            continue
        responses[status] = {
            "description": meaning,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        if issubclass(kind, errors.QueueFull | errors.QuotaExceeded):
            responses[status]["headers"] = {
                "Retry-After": {"description": "Predicted seconds until there is room.", "schema": {"type": "integer"}}
            }
    return responses


def install(app: FastAPI) -> None:
    """Give every error that a route or the router raises the one form; the rest is `unexpected`."""
    app.add_exception_handler(PromptIRServeError, _on_own_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
    app.add_exception_handler(HTTPException, _on_router_error)
    app.add_exception_handler(ClientDisconnect, _on_client_gone)


def unexpected(request: Request, error: Exception) -> Response:
    """The answer to an exception that nobody foresaw: 500, without a word about the inside; 503 for want of memory."""
    if is_memory_short(error):
        short = errors.MemoryShort(NO_MEMORY)
        return answer(request.scope, short)
    detail = "The server failed in a way it did not foresee. The log has the cause under this request's id."
    return _problem(request.scope, 500, PromptIRServeError.slug, PromptIRServeError.title, detail)


def answer(scope: Scope, error: PromptIRServeError) -> Response:
    """The problem document of an error of the tree."""
    headers = {}
    if (seconds := retry_after(error)) is not None:
        headers["Retry-After"] = str(seconds)
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110, section 11.6.1
    return _problem(scope, status_of(type(error)), error.slug, error.title, error.detail, headers, _extensions(error))


def retry_after(error: PromptIRServeError) -> int | None:
    """Whole seconds until a refused request would be taken, where they are known."""
    seconds = error.retry_after_s if isinstance(error, errors.Refused) else None
    # Rounded up: a client that comes back early is only refused again.
    return None if seconds is None else max(1, math.ceil(seconds))


def problem_of(error: PromptIRServeError, instance: str) -> dict[str, object]:
    """The members of the problem document of an error that is answered, or kept, without a request's scope."""
    members: dict[str, object] = {
        "type": _type_of(error.slug),
        "title": error.title,
        "status": status_of(type(error)),
        "detail": error.detail,
        "instance": instance,
    }
    return members | _extensions(error) | members


def client_gone(scope: Scope) -> Response:
    """What ends a request whose client has left; nobody reads it."""
    request_context.note_outcome(scope, "client-closed")
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def _extensions(error: PromptIRServeError) -> dict[str, object]:
    seconds = retry_after(error)
    return error.extensions if seconds is None else error.extensions | {"retry_after_s": seconds}


async def _on_own_error(request: Request, error: Exception) -> Response:
    return answer(request.scope, cast(PromptIRServeError, error))


async def _on_invalid_parameters(request: Request, error: Exception) -> Response:
    faults = [
        {"in": str(fault["loc"][0]), "name": ".".join(map(str, fault["loc"][1:])), "message": fault["msg"]}
        for fault in cast(RequestValidationError, error).errors()
    ]
    return answer(request.scope, options.invalid_parameters(faults))


async def _on_router_error(request: Request, error: Exception) -> Response:
    error = cast(HTTPException, error)
    title = http.HTTPStatus(error.status_code).phrase
    slug = title.lower().replace(" ", "-")
    # As it was sent: in ASCII, with all that is not text as %XX.
    path, root = shortened(request.scope["raw_path"].decode("latin-1")), request.app.state.services.public_root
    extensions: dict[str, object] = {}
    detail = str(error.detail)
    if error.status_code == http.HTTPStatus.NOT_FOUND:
        detail = f"There is nothing at {path}; the API is described at {root}/docs."
    elif error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = methods_of(request.scope)
        detail = f"{path} does not take {request.method}; it takes {', '.join(allowed)}."
        extensions["allowed_methods"] = allowed
        return _problem(
            request.scope, error.status_code, slug, title, detail, {"Allow": ", ".join(allowed)}, extensions
        )
    return _problem(request.scope, error.status_code, slug, title, detail, error.headers, extensions)


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return client_gone(request.scope)


def _problem(
    scope: Scope,
    status: int,
    slug: str,
    title: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    extensions: Mapping[str, object] | None = None,
) -> Response:
    request_context.note_outcome(scope, slug)
    if is_open_inference(scope):
        return JSONResponse({"error": detail}, status, headers)
    members: dict[str, object] = {
        "type": _type_of(slug),
        "title": title,
        "status": status,
        "detail": detail,
        "instance": f"urn:promptir:request:{logs.request_id.get()}",
    }
    document = members | dict(extensions or {}) | members  # in this order, and no extension replaces a member
    return JSONResponse(document, status, headers, MEDIA_TYPE)


def _type_of(slug: str) -> str:
    return f"urn:promptir:problem:{slug}"
