"""The middleware stack: which middleware stands between the connection and every route."""

from collections.abc import Callable, Sequence
from functools import partial

from starlette.types import ASGIApp

from server.http import error_responses
from server.http.auth import AccessGuard
from server.http.cors import CrossOrigin
from server.http.middleware.request_context import RequestContext
from server.http.middleware.target import HostCheck
from server.http.services import Services
from server.tracing import Tracing

Middleware = Callable[[ASGIApp], ASGIApp]


def middleware_of(services: Services, tracing: Tracing | None) -> list[Middleware]:
    """List the middleware that the settings ask for, from the innermost to the outermost."""
    settings, stack = services.settings, list[Middleware]()
    if services.access is not None:
        stack.append(partial(AccessGuard, access=services.access, limits=settings.limits))
    if settings.access.cors_origins:  # outside the guard: browsers send their first question without a key
        stack.append(partial(CrossOrigin, origins=settings.access.cors_origins))
    stack.append(partial(HostCheck, limits=settings.limits))
    crash = error_responses.unexpected
    stack.append(partial(RequestContext, metrics=services.metrics, on_crash=crash, tracing=tracing))
    return stack


def within(stack: Sequence[Middleware], route: ASGIApp) -> ASGIApp:
    """Put middleware around a route."""
    for middleware in stack:
        route = middleware(route)
    return route
