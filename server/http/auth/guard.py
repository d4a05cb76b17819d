"""The access guard: the one place where HTTP is asked for a key, in front of every route."""

from starlette.types import ASGIApp, Receive, Scope, Send

from server.access.access import Access
from server.errors import PromptIRServeError
from server.http import error_responses
from server.http.auth.caller import note_caller
from server.http.body.body import Body, UploadRoom, declared_bytes
from server.http.middleware.privacy import varying_by_key
from server.http.restore.route import refuse
from server.settings import LimitSettings

# What a stranger may see: that the server is there and well, what it is, and the page. Everything else asks for a key.
_OPEN = {"/", "/healthz", "/readyz", "/metrics", "/docs", "/redoc", "/openapi.json", "/favicon.ico"}
_OPEN |= {"/v1/limits", "/v1/version"}
_OPEN_BELOW = ("/web/", "/docs/", "/v1/health/", "/v2/health/")
_LOOKING = ("GET", "HEAD", "OPTIONS")


class AccessGuard:
    """ASGI middleware: lets a request with a known key through, with its caller in the scope.

    A key is asked for before a byte of the body is read. Each POST is work, and charged as one request.
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
            await self._refuse(error, scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _refuse(self, error: PromptIRServeError, scope: Scope, receive: Receive, send: Send) -> None:
        response, headers = error_responses.answer(scope, error), dict(scope["headers"])
        declared = declared_bytes(headers)
        if not declared and b"transfer-encoding" not in headers:
            await response(scope, receive, send)
            return
        # Nothing of the body is kept; it is read on so that the answer is not lost with the connection.
        limit, stall_s = self._limits.max_upload_bytes, self._limits.upload_stall_s
        await refuse(response, Body(receive, declared, limit, UploadRoom(limit), stall_s), scope, receive, send)


def is_open(method: str, path: str) -> bool:
    """Whether nobody is asked for a key."""
    return method in _LOOKING and (path in _OPEN or path.startswith(_OPEN_BELOW))
