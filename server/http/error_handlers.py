"""Error handlers: give every error that the framework meets the form of a problem document."""

import http
from typing import cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from server.errors import PromptIRServeError
from server.http.error_responses import answer, client_gone, problem
from server.http.middleware.target import methods_of
from server.http.restore.options import invalid_parameters
from server.logs import shortened


def install(app: FastAPI) -> None:
    """Add a handler for each kind of error; what remains is answered by `error_responses.unexpected`."""
    app.add_exception_handler(PromptIRServeError, _on_own_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_parameters)
    app.add_exception_handler(HTTPException, _on_router_error)
    app.add_exception_handler(ClientDisconnect, _on_client_gone)


async def _on_own_error(request: Request, error: Exception) -> Response:
    return answer(request.scope, cast(PromptIRServeError, error))


async def _on_invalid_parameters(request: Request, error: Exception) -> Response:
    faults = [
        {"in": str(fault["loc"][0]), "name": ".".join(map(str, fault["loc"][1:])), "message": fault["msg"]}
        for fault in cast(RequestValidationError, error).errors()
    ]
    return answer(request.scope, invalid_parameters(faults))


async def _on_router_error(request: Request, error: Exception) -> Response:
    error = cast(HTTPException, error)
    title = http.HTTPStatus(error.status_code).phrase
    slug = title.lower().replace(" ", "-")
    # The path as it was sent, which is ASCII, with everything that is not text as %XX.
    path, root = shortened(request.scope["raw_path"].decode("latin-1")), request.app.state.services.public_root
    detail, headers = str(error.detail), dict(error.headers or {})
    extensions: dict[str, object] = {}
    if error.status_code == http.HTTPStatus.NOT_FOUND:
        detail = f"There is nothing at {path}; the API is described at {root}/docs."
    elif error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = methods_of(request.scope)
        detail = f"{path} does not take {request.method}; it takes {', '.join(allowed)}."
        extensions["allowed_methods"] = allowed
        headers = {"Allow": ", ".join(allowed)}
    return problem(request.scope, error.status_code, slug, title, detail, headers, extensions)


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return client_gone(request.scope)
