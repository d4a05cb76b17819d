"""Error responses: problem documents as HTTP answers, and their part of OpenAPI."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Scope

from server import errors, logs
from server.errors import PromptIRServeError
from server.errors.memory import NO_MEMORY, is_memory_short
from server.errors.problem import (
    CLIENT_CLOSED_REQUEST,
    UNFORESEEN,
    document,
    extensions_of,
    retry_after,
    status_of,
    type_of,
)
from server.http.open_inference.schemas import is_open_inference
from server.http.openai.schemas import error_document, is_openai
from server.http.scope import note_outcome

MEDIA_TYPE = "application/problem+json"


def openapi_responses(*kinds: type[PromptIRServeError]) -> dict[int | str, dict[str, Any]]:
    """Build OpenAPI's `responses` of a route that can raise these errors; the schema is `Problem`, by reference."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status = status_of(kind)
        meaning = f"**{kind.title}** (`{type_of(kind.slug)}`). {(kind.__doc__ or '').strip().splitlines()[0]}"
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


def answer(scope: Scope, error: PromptIRServeError) -> Response:
    """Answer a request with an error of the tree."""
    headers = {}
    if (seconds := retry_after(error)) is not None:
        headers["Retry-After"] = str(seconds)
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110, section 11.6.1
    status, extensions = status_of(type(error)), extensions_of(error)
    return problem(scope, status, error.slug, error.title, error.detail, headers, extensions)


def unexpected(request: Request, error: Exception) -> Response:
    """Answer a request that failed with an exception outside the tree: 500, or 503 if memory was short."""
    if is_memory_short(error):
        return answer(request.scope, errors.MemoryShort(NO_MEMORY))
    return problem(request.scope, 500, PromptIRServeError.slug, PromptIRServeError.title, UNFORESEEN)


def client_gone(scope: Scope) -> Response:
    """End a request whose client has left; nobody reads the answer."""
    note_outcome(scope, "client-closed")
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def problem(
    scope: Scope,
    status: int,
    slug: str,
    title: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    extensions: Mapping[str, object] | None = None,
) -> Response:
    """Answer with a problem document, or in the form of the protocol of the path: Open Inference or OpenAI."""
    note_outcome(scope, slug)
    if is_open_inference(scope):
        return JSONResponse({"error": detail}, status, headers)
    if is_openai(scope):
        return JSONResponse(error_document(status, slug, detail, extensions or {}), status, headers)
    instance = f"urn:promptir:request:{logs.request_id.get()}"
    return JSONResponse(document(status, slug, title, detail, instance, extensions or {}), status, headers, MEDIA_TYPE)
