"""Methods: which ones a path takes, HEAD wherever GET is taken, and OPTIONS (RFC 9110, section 9.3)."""

from collections.abc import Iterable
from contextlib import suppress

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ROUTED = ("DELETE", "GET", "PATCH", "POST", "PUT")
_WHOLE_SERVER = "*"


class Methods:
    """ASGI middleware around the router: routes need to know GET alone."""

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
                raise _Answered  # a file or events: nobody is there to read on

        with suppress(_Answered):
            await self._app({**scope, "method": "GET"}, receive, send_head)


class _Answered(Exception):  # noqa: N818 - no fault
    """The head has been sent, and that is the whole answer."""


def methods_of(scope: Scope) -> list[str]:
    """What the path of a request takes, but for OPTIONS, by the alphabet; empty where there is nothing."""
    if scope["path"] == _WHOLE_SERVER:
        return ["DELETE", "GET", "HEAD", "POST"]
    found = [method for method in _ROUTED if _takes(scope["app"].routes, scope, method)]
    if "GET" in found:
        found.append("HEAD")
    return sorted(found)


def _takes(routes: Iterable[BaseRoute], scope: Scope, method: str) -> bool:
    # Asked one by one: a router that is included in another tells what it matches, and not what it takes.
    asked = {**scope, "method": method}
    return any(route.matches(asked)[0] is Match.FULL for route in routes)
