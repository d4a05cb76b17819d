"""Host check: refuses requests that do not say which host they are for, or say it twice (RFC 9112, section 3.2)."""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import InvalidRequest
from server.http import error_responses
from server.http.body.body import Body, UploadRoom, declared_bytes
from server.http.restore.route import refuse
from server.settings import LimitSettings

# RFC 3986, section 3.2.2: a name, an address, or one of IPv6 in brackets; and a port. It may be empty.
_HOST = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[\w:.%~-]+\])(?::\d*)?", re.ASCII)


class HostCheck:
    """ASGI middleware: lets a request through whose Host is one that a server and a proxy before it read alike."""

    def __init__(self, app: ASGIApp, limits: LimitSettings) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (fault := _fault(scope)) is None:
            await self._app(scope, receive, send)
            return
        response = error_responses.answer(scope, InvalidRequest(fault))
        response.headers["Connection"] = "close"
        limit, stall_s = self._limits.max_upload_bytes, self._limits.upload_stall_s
        body = Body(receive, declared_bytes(dict(scope["headers"])), limit, UploadRoom(limit), stall_s)
        await refuse(response, body, scope, receive, send)


def _fault(scope: Scope) -> str | None:
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) > 1:
        return "The request has more than one Host header: a request is for one host."
    if not hosts:  # HTTP/1.0 knows none
        return None if scope["http_version"] == "1.0" else "The request has no Host header, which HTTP/1.1 asks for."
    return None if _HOST.fullmatch(hosts[0]) else "The Host header of the request is neither a name nor an address."
