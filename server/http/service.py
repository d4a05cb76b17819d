"""Service: the ASGI application, which answers its busiest routes without the framework's routing."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from server.http.middleware.target import own_path


class Service(FastAPI):
    """FastAPI, and in front of it the routes that bypass it: its routing costs more than decoding a small image.

    Middleware of `add_middleware` is not called for these routes; they are wrapped in theirs.
    """

    direct: Mapping[tuple[str, str], ASGIApp] = {}
    """The routes that bypass FastAPI, by method and path."""
    public_root = ""
    """The prefix under which a proxy serves this: taken off each path, so that routes know their own paths only."""

    def __init__(self, **options: Any) -> None:
        # The page has its own viewer, and redirects would lead to any host that the Host header names.
        super().__init__(docs_url=None, redoc_url=None, redirect_slashes=False, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        app = None
        if scope["type"] == "http":
            scope["path"] = own_path(scope["path"], self.public_root)
            app = self.direct.get((scope["method"], scope["path"]))
        await (super().__call__ if app is None else app)(scope, receive, send)
