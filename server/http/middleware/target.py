"""What a request is for: its host (RFC 9112, section 3.2), its path, and its method (RFC 9110, section 9.3)."""

import re
from collections.abc import Iterable
from contextlib import suppress

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import InvalidRequest
from server.http.body.refusal import refuse_unread
from server.settings import LimitSettings

# RFC 3986, section 3.2.2: a name, an address, or an IPv6 address in brackets; then a port. It may be empty.
_HOST = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[\w:.%~-]+\])(?::\d*)?", re.ASCII)
_ROUTED = ("DELETE", "GET", "PATCH", "POST", "PUT")
_WHOLE_SERVER = "*"


class HostCheck:
    """Middleware that refuses requests with no Host header, with several, or with one that proxies might misread."""

    def __init__(self, app: ASGIApp, limits: LimitSettings) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (fault := _host_fault(scope)) is None:
            await self._app(scope, receive, send)
        else:
            await refuse_unread(InvalidRequest(fault), self._limits, scope, receive, send, closes=True)


class Methods:
    """Middleware that answers HEAD and OPTIONS, so that routes implement GET alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            await self._head(scope, receive, send)
            return
        if scope["type"] == "http" and scope["method"] == "OPTIONS" and (methods := methods_of(scope)):
            allowed = ", ".join(sorted([*methods, "OPTIONS"]))
            await Response(status_code=204, headers={"Allow": allowed})(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_head(message: Message) -> None:
            if message["type"] != "http.response.body":
                await send(message)
                return
            await send({"type": "http.response.body", "body": b""})
            if message.get("more_body"):
                raise _Answered  # a file or events, of which nothing more is wanted

        with suppress(_Answered):
            await self._app({**scope, "method": "GET"}, receive, send_head)


def own_path(path: str, root: str) -> str:
    """Strip a path to what the routes know: no final slashes, and no root path, which not every proxy takes off.

    A redirect from `/restore/` to `/restore` would lose the photo: many clients follow it with a GET, if at all.
    """
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path.rstrip("/") or "/"


def methods_of(scope: Scope) -> list[str]:
    """List the methods that the path of a request takes, without OPTIONS, in alphabetical order; none if unknown."""
    if scope["path"] == _WHOLE_SERVER:
        return ["DELETE", "GET", "HEAD", "POST"]
    found = [method for method in _ROUTED if _takes(scope["app"].routes, scope, method)]
    if "GET" in found:
        found.append("HEAD")
    return sorted(found)


def _takes(routes: Iterable[BaseRoute], scope: Scope, method: str) -> bool:
    # Each method is tried: an included router tells whether it matches, and not which methods it takes.
    asked = {**scope, "method": method}
    return any(route.matches(asked)[0] is Match.FULL for route in routes)


def _host_fault(scope: Scope) -> str | None:
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) > 1:
        return "The request has more than one Host header: a request is for one host."
    if not hosts:  # HTTP/1.0 has no such header
        return None if scope["http_version"] == "1.0" else "The request has no Host header, which HTTP/1.1 asks for."
    return None if _HOST.fullmatch(hosts[0]) else "The Host header of the request is neither a name nor an address."


class _Answered(Exception):  # noqa: N818 - no fault
    """The head was sent, which is the whole answer."""
