"""Routes of the protocol: the server, its models, and the extensions that are refused."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from starlette.routing import Route

from server.errors import NotOffered
from server.http.body.body import UploadRoom
from server.http.open_inference.route import METHOD, PATHS, InferRoute
from server.http.open_inference.schemas import (
    ROOT,
    ModelIndex,
    ModelMetadata,
    ModelName,
    ModelReady,
    ModelVersion,
    ProtocolError,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from server.http.services import InjectedServices, Services
from server.open_inference import models
from server.open_inference.models import Model, Models
from server.open_inference.statistics import statistics
from server.restore.pipeline import Status

router = APIRouter(prefix=ROOT, tags=["open inference protocol"])

_METHODS = ["GET", "POST"]
_MEMORY = "no memory is shared with clients: send tensors in the request"
_LOADING = "models are not loaded or unloaded by request"
_SETTINGS = "tracing and logging are set when the server starts"
# Paths of Triton's extensions below the root, and why each is refused.
_REASONS = {
    "/systemsharedmemory/{rest:path}": _MEMORY,
    "/cudasharedmemory/{rest:path}": _MEMORY,
    "/repository/models/{model}/load": _LOADING,
    "/repository/models/{model}/unload": _LOADING,
    "/trace/setting": _SETTINGS,
    "/models/{model}/trace/setting": _SETTINGS,
    "/logging": _SETTINGS,
    "/models/{model}/generate": "images are restored, not generated from text",
    "/models/{model}/generate_stream": "images are restored, not generated from text",
}
_UNREADY: dict[int | str, dict[str, Any]] = {503: {"model": ModelReady, "description": "Not ready."}}
_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": ProtocolError, "description": "No model has this name, or this version."}
}


@router.get("", summary="The server and its extensions of the protocol")
async def server_metadata(services: InjectedServices) -> ServerMetadata:
    """What a client of the protocol asks first."""
    return ServerMetadata(name=models.SERVER_NAME, version=services.version, extensions=list(models.EXTENSIONS))


@router.get("/health/live", summary="Liveness")
async def live() -> ServerLive:
    """As `/healthz`."""
    return ServerLive()


@router.get("/health/ready", summary="Readiness", responses={503: {"model": ServerReady, "description": "Not ready."}})
async def ready(services: InjectedServices, response: Response) -> ServerReady:
    """As `/readyz`."""
    return ServerReady(ready=_is_ready(services, response))


@router.get("/models/stats", summary="Statistics of all models")
async def all_statistics(services: InjectedServices) -> dict[str, Any]:
    """Cumulative counts and nanoseconds."""
    return statistics(list(_models(services).by_name.values()), services.metrics.registry)


def _models(services: Services) -> Models:
    return Models(services.restorer.models)


async def _by_name(services: InjectedServices, model: ModelName) -> Model:
    return _models(services).find(model)


async def _by_version(services: InjectedServices, model: ModelName, version: ModelVersion) -> Model:
    return _models(services).find(model, version)


def _add_model_routes(path: str, found: Callable[..., Awaitable[Model]], what: str) -> None:
    """Add the routes of a model, by its name, or by name and version."""
    Found = Annotated[Model, Depends(found)]  # noqa: N806 - a type

    @router.get(path, summary=f"The tensors of {what}", responses=_UNKNOWN)
    async def metadata(services: InjectedServices, model: Found) -> ModelMetadata:
        """All names of a model take all datatypes; each lists one, for clients that rely on it."""
        return ModelMetadata(**model.metadata(services.settings.backend.backend))

    @router.get(f"{path}/ready", summary=f"Whether {what} is ready", responses=_UNKNOWN | _UNREADY)
    async def ready(services: InjectedServices, response: Response, model: Found) -> ModelReady:
        """As `/readyz`."""
        return ModelReady(name=model.name, ready=_is_ready(services, response))

    @router.get(f"{path}/config", summary=f"Triton's configuration of {what}", responses=_UNKNOWN)
    async def config(services: InjectedServices, model: Found) -> dict[str, Any]:
        """The part that perf_analyzer and other clients of Triton read."""
        return model.config(services.settings.backend.backend)

    @router.get(f"{path}/stats", summary=f"Statistics of {what}", responses=_UNKNOWN)
    async def stats(services: InjectedServices, model: Found) -> dict[str, Any]:
        """Cumulative counts and nanoseconds."""
        return statistics([model], services.metrics.registry)


_add_model_routes("/models/{model}", _by_name, "a model")
_add_model_routes("/models/{model}/versions/{version}", _by_version, "a version of a model")


@router.post("/repository/index", summary="The models")
async def repository_index(services: InjectedServices) -> list[ModelIndex]:
    """Their names and whether they are ready; models are not loaded or unloaded by request."""
    status = services.restorer.status
    state, reason = ("READY", "") if status is Status.READY else ("UNAVAILABLE", status.value)
    names = _models(services).by_name
    return [ModelIndex(name=name, version=models.VERSION, state=state, reason=reason) for name in names]


def _is_ready(services: Services, response: Response) -> bool:
    is_ready = services.restorer.status is Status.READY
    response.status_code = 200 if is_ready else 503
    return is_ready


def install(app: FastAPI, services: Services, room: UploadRoom) -> None:
    """Add everything under /v2; its uploads share one room with all others."""
    infer = InferRoute(services, room)
    for path in PATHS:
        app.router.routes.append(Route(path, infer, methods=[METHOD], include_in_schema=False))
    app.include_router(router)
    app.router.routes.extend(_refused(path, reason) for path, reason in _REASONS.items())


def _refused(path: str, reason: str) -> Route:
    async def refuse(request: Request) -> Response:
        raise NotOffered(f"This is not offered: {reason}.")

    return Route(f"{ROOT}{path}", refuse, methods=_METHODS, include_in_schema=False)
