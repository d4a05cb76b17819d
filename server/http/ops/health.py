"""Health and version in the shapes that NVIDIA's microservices (NIM) have."""

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from server.http.services import InjectedServices

router = APIRouter(prefix="/v1", tags=["health"])


class HealthResponse(BaseModel):
    """The state of the service in a word and a sentence."""

    object: Literal["health.response"] = "health.response"
    message: str
    status: str


class Artifact(BaseModel):
    """The network that runs."""

    name: str
    sha256: str = Field(description="Of the model file.")
    precision: str


class VersionResponse(BaseModel):
    """Which code and which network answer, and where; `artifact` is null until the backend has started."""

    package: str = "promptir-serve"
    version: str
    backend: str
    devices: list[str]
    device: str | None = Field(description="As the backend names the first that was ready.")
    artifact: Artifact | None


_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": HealthResponse, "description": "Not ready."}}


@router.get("/health/live", summary="Liveness")
async def live() -> HealthResponse:
    """As `/healthz`."""
    return HealthResponse(message="Service is live.", status="live")


@router.get("/health/ready", summary="Readiness", responses=_NOT_READY)
async def ready(services: InjectedServices, response: Response) -> HealthResponse:
    """As `/readyz`."""
    if (refusal := services.refusal) is None:
        return HealthResponse(message="Service is ready.", status="ready")
    response.status_code = 503
    return HealthResponse(message=refusal.detail, status="not ready")


@router.get("/version", summary="Package, artifact, backend and device")
async def version(services: InjectedServices) -> VersionResponse:
    """What to name in a report, and what a deployment is compared by."""
    info, backend = services.restorer.info, services.settings.backend
    return VersionResponse(
        version=services.version,
        backend=backend.backend,
        devices=list(backend.device_names),
        device=info and info.device,
        artifact=info and Artifact(name=info.model.name, sha256=info.model.hash, precision=info.model.precision),
    )
