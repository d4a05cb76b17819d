"""Layers: what stands between the connection and every route."""

from collections.abc import Callable, Sequence
from functools import partial

from starlette.types import ASGIApp

from server.http import error_responses
from server.http.auth.guard import AccessGuard
from server.http.cors import CrossOrigin
from server.http.middleware.host_check import HostCheck
from server.http.middleware.request_context import RequestContext
from server.http.services import Services
from server.tracing import Tracing

Layer = Callable[[ASGIApp], ASGIApp]


def layers_of(services: Services, tracing: Tracing | None) -> list[Layer]:
    """From the inside out; those that nobody asked for are not there."""
    settings, layers = services.settings, list[Layer]()
    if services.access is not None:
        layers.append(partial(AccessGuard, access=services.access, limits=settings.limits))
    if settings.access.cors_origins:  # outside the guard: browsers ask without a key
        layers.append(partial(CrossOrigin, origins=settings.access.cors_origins))
    layers.append(partial(HostCheck, limits=settings.limits))
    crash = error_responses.unexpected
    layers.append(partial(RequestContext, metrics=services.metrics, on_crash=crash, tracing=tracing))
    return layers


def within(layers: Sequence[Layer], route: ASGIApp) -> ASGIApp:
    """A route with the layers around it."""
    for layer in layers:
        route = layer(route)
    return route
