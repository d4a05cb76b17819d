"""API keys over HTTP: the middleware that asks for them, and their part of OpenAPI."""

from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from server import errors
from server.access.access import Access
from server.errors import PromptIRServeError
from server.http.body.refusal import refuse_unread
from server.http.error_responses import openapi_responses
from server.http.middleware.privacy import varying_by_key
from server.http.scope import note_caller
from server.settings import LimitSettings

# Open to everyone: that the server is there and healthy, what it is, and the page. Everything else needs a key.
_OPEN = {"/", "/healthz", "/readyz", "/metrics", "/docs", "/redoc", "/openapi.json", "/favicon.ico"}
_OPEN |= {"/v1/limits", "/v1/version"}
_OPEN_BELOW = ("/web/", "/docs/", "/v1/health/", "/v2/health/")
_LOOKING = ("GET", "HEAD", "OPTIONS")


_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


class AccessGuard:
    """Middleware that lets requests with a known key pass, with their caller in the scope.

    The key is checked before a byte of the body is read. Each POST is charged as one request.
    """

    def __init__(self, app: ASGIApp, access: Access, limits: LimitSettings) -> None:
        self._app = app
        self._access = access
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_open(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        send = varying_by_key(send)
        try:
            caller = self._access.enter(scope["headers"])
            note_caller(scope, caller)
            if scope["method"] == "POST":
                caller.charge_request()
        except PromptIRServeError as error:
            await refuse_unread(error, self._limits, scope, receive, send)
            return
        await self._app(scope, receive, send)


def is_open(method: str, path: str) -> bool:
    """Whether a path needs no key."""
    return method in _LOOKING and (path in _OPEN or path.startswith(_OPEN_BELOW))


def document_keys(schema: dict[str, Any]) -> None:
    """Add to a finished OpenAPI document the two headers that take a key, and the errors of a missing or bad one."""
    schema["components"]["securitySchemes"] = _SCHEMES
    schema["security"] = [{name: []} for name in _SCHEMES]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            if is_open(method.upper(), path):
                operation["security"] = []
                continue
            kinds: list[type[errors.PromptIRServeError]] = [errors.Unauthorized, errors.Forbidden]
            if method == "post":
                kinds.append(errors.QuotaExceeded)
            for status, response in openapi_responses(*kinds).items():
                there = operation["responses"].setdefault(str(status), response)
                if there is not response:  # a full queue has the same status as a quota
                    there["description"] += f"\n\n{response['description']}"
