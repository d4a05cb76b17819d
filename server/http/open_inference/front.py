"""Front: the routes of the protocol, put into an application."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route

from server.http.body.body import UploadRoom
from server.http.open_inference import not_offered, openapi
from server.http.open_inference.route import METHOD, PATHS, InferRoute
from server.http.open_inference.routes import router
from server.http.services import Services


def install(app: FastAPI, services: Services, room: UploadRoom) -> None:
    """Add everything under /v2; what it reads shares one room with all other uploads."""
    infer = InferRoute(services, room)
    for path in PATHS:
        app.router.routes.append(Route(path, infer, methods=[METHOD], include_in_schema=False))
    app.include_router(router)
    app.router.routes.extend(not_offered.routes())


def documents() -> list[APIRoute]:
    """What OpenAPI is told of the routes that it cannot see."""
    return openapi.infer_documents()


def schemas() -> dict[str, Any]:
    """The schemas that these refer to."""
    return openapi.schemas()
