"""Routes of the protocol that tell about the server and its models."""

from typing import Any

from fastapi import APIRouter, Response

from server.api.open_inference.errors import ROOT
from server.api.open_inference.schemas import (
    ModelIndex,
    ModelMetadata,
    ModelReady,
    ProtocolError,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from server.api.services import InjectedServices, Services
from server.open_inference import models
from server.open_inference.statistics import statistics
from server.restorer import Status

router = APIRouter(prefix=ROOT, tags=["open inference protocol"])

_MODEL, _VERSION = "/models/{model}", "/models/{model}/versions/{version}"
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
    """Cumulative counts and nanoseconds; the models are names of one network."""
    return statistics(list(models.MODELS.values()), services.metrics.registry)


@router.get(_MODEL, summary="What a model takes and gives", responses=_UNKNOWN)
@router.get(_VERSION, summary="What a version of a model takes and gives", responses=_UNKNOWN)
async def model_metadata(services: InjectedServices, model: str, version: str = "") -> ModelMetadata:
    """The names are of one network and take all datatypes; each lists one, for clients that go by it."""
    return ModelMetadata(**models.find(model, version).metadata(services.settings.backend.backend))


@router.get(
    f"{_MODEL}/ready",
    summary="Whether a model is ready",
    responses=_UNKNOWN | {503: {"model": ModelReady, "description": "Not ready."}},
)
@router.get(
    f"{_VERSION}/ready",
    summary="Whether a version of a model is ready",
    responses=_UNKNOWN | {503: {"model": ModelReady, "description": "Not ready."}},
)
async def model_ready(services: InjectedServices, response: Response, model: str, version: str = "") -> ModelReady:
    """As `/readyz`."""
    return ModelReady(name=models.find(model, version).name, ready=_is_ready(services, response))


@router.get(f"{_MODEL}/config", summary="Triton's configuration of a model", responses=_UNKNOWN)
@router.get(f"{_VERSION}/config", summary="Triton's configuration of a version of a model", responses=_UNKNOWN)
async def model_config(services: InjectedServices, model: str, version: str = "") -> dict[str, Any]:
    """As far as perf_analyzer and other clients of Triton read it."""
    return models.find(model, version).config(services.settings.backend.backend)


@router.get(f"{_MODEL}/stats", summary="Statistics of a model", responses=_UNKNOWN)
@router.get(f"{_VERSION}/stats", summary="Statistics of a version of a model", responses=_UNKNOWN)
async def model_statistics(services: InjectedServices, model: str, version: str = "") -> dict[str, Any]:
    """Cumulative counts and nanoseconds."""
    return statistics([models.find(model, version)], services.metrics.registry)


@router.post("/repository/index", summary="The models")
async def repository_index(services: InjectedServices) -> list[ModelIndex]:
    """Their names and whether they are ready; none is loaded or unloaded by request."""
    status = services.restorer.status
    state, reason = ("READY", "") if status is Status.READY else ("UNAVAILABLE", status.value)
    return [ModelIndex(name=name, version=models.VERSION, state=state, reason=reason) for name in models.MODELS]


def _is_ready(services: Services, response: Response) -> bool:
    is_ready = services.restorer.status is Status.READY
    response.status_code = 200 if is_ready else 503
    return is_ready
