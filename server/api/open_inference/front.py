"""Front: the routes of the protocol, put into an application."""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route

from server.api.body import UploadRoom
from server.api.open_inference import infer_document, not_offered
from server.api.open_inference.infer_route import METHOD, PATHS, InferRoute
from server.api.open_inference.routes import router
from server.api.services import Services


def install(app: FastAPI, services: Services, room: UploadRoom) -> None:
    """Add everything under /v2; what it reads shares one room with all other uploads."""
    infer = InferRoute(services, room)
    for path in PATHS:
        app.router.routes.append(Route(path, infer, methods=[METHOD], include_in_schema=False))
    app.include_router(router)
    app.router.routes.extend(not_offered.routes())


def documents() -> list[APIRoute]:
    """What OpenAPI is told of the routes that it cannot see."""
    return infer_document.infer_documents()


def schemas() -> dict[str, Any]:
    """The schemas that these refer to."""
    return infer_document.schemas()
