"""Routes about the service: description, limits, health, version, scheduler and metrics."""

import math
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Response

from server.http.ops.schemas import (
    Artifact,
    Health,
    HealthResponse,
    Limits,
    Model,
    Readiness,
    Scheduler,
    ServiceDescription,
    ServiceLimits,
    VersionResponse,
)
from server.http.services import InjectedServices
from server.metrics.exposition import OPENMETRICS, content_type
from server.restore.pipeline import Status

router = APIRouter()
health_router = APIRouter(prefix="/v1", tags=["health"])
"""Health and version at the paths of NVIDIA's microservices (NIM)."""
_NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": HealthResponse, "description": "Not ready."}}


@router.get("/", summary="What this service is")
async def describe(services: InjectedServices, response: Response) -> ServiceDescription:
    """Version, model, limits and links; browsers, which ask for HTML, get the page."""
    response.headers["Vary"] = "Accept"
    limits = services.limits
    models = [
        Model(
            name=name,
            artifact=info.model.name,
            precision=info.model.precision,
            backend=info.backend,
            device=info.device,
        )
        for name, info in services.restorer.infos.items()
    ]
    description = ServiceDescription(
        version=services.version,
        status=services.restorer.status,
        model=next(iter(models), None),
        models=models,
        jobs=services.jobs is not None,
        limits=Limits(
            max_upload_bytes=limits.max_upload_bytes,
            max_image_pixels=limits.max_image_pixels,
            max_image_side=limits.max_image_side,
        ),
    )
    description.links = {name: services.public_root + path for name, path in description.links.items()}
    return description


@router.get("/v1/limits", summary="Every limit on a request")
async def limits(services: InjectedServices) -> ServiceLimits:
    """The limits on uploads and their options: bytes, pixels, sides, formats, tiles and qualities."""
    multiples = [info.model.size_multiple for info in services.restorer.infos.values()]
    return ServiceLimits.of(services.settings, math.lcm(*multiples) if multiples else None)


@router.get("/healthz", summary="Liveness")
async def healthz() -> Health:
    """200 as long as the process answers, ready or not."""
    return Health()


@router.get(
    "/readyz",
    response_model_exclude_none=True,
    summary="Readiness",
    responses={503: {"model": Readiness, "description": "Starting, draining, the backend or the jobs' disk is lost."}},
)
async def readyz(services: InjectedServices, response: Response) -> Readiness:
    """200 while the server takes restorations (from the warm-up to the drain) and can store and read jobs."""
    refusal, status = services.refusal, services.restorer.status
    trouble = None if services.jobs is None else services.jobs.trouble
    response.status_code = 200 if refusal is None else 503
    return Readiness(
        status="jobs-unavailable" if refusal is not None and status is Status.READY else status,
        jobs=None if trouble is None else trouble.detail,
    )


@router.get("/v1/scheduler", summary="The state of the scheduler")
async def scheduler(services: InjectedServices) -> Scheduler:
    """The queued tiles by shape, the predicted backlog, and each device with its runs and fitted costs."""
    return Scheduler.model_validate(services.restorer.snapshot())


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {"content": {media: {"schema": {"type": "string"}} for media in ("text/plain", OPENMETRICS)}},
    },
)
def metrics(services: InjectedServices, accept: Annotated[str, Header(include_in_schema=False)] = "") -> Response:
    """All series in the Prometheus text format, or with exemplars in OpenMetrics if Accept names it."""
    if services.settings.http.metrics_port is not None:
        raise HTTPException(404)
    # Not async, so it runs in a thread: it queries GPU drivers, which may be slow.
    is_openmetrics = OPENMETRICS in accept
    page = services.metrics_page(is_openmetrics)
    return Response(page, media_type=content_type(is_openmetrics))


@health_router.get("/health/live", summary="Liveness")
async def live() -> HealthResponse:
    """As `/healthz`."""
    return HealthResponse(message="Service is live.", status="live")


@health_router.get("/health/ready", summary="Readiness", responses=_NOT_READY)
async def ready(services: InjectedServices, response: Response) -> HealthResponse:
    """As `/readyz`."""
    if (refusal := services.refusal) is None:
        return HealthResponse(message="Service is ready.", status="ready")
    response.status_code = 503
    return HealthResponse(message=refusal.detail, status="not ready")


@health_router.get("/version", summary="Package, artifact, backend and device")
async def version(services: InjectedServices) -> VersionResponse:
    """What to quote in a bug report, and to compare deployments by."""
    restorer, backend = services.restorer, services.settings.backend
    artifacts = {
        name: Artifact(name=info.model.name, sha256=info.model.hash, precision=info.model.precision)
        for name, info in restorer.infos.items()
    }
    return VersionResponse(
        version=services.version,
        backend=backend.backend,
        devices=list(backend.device_names),
        device=restorer.info and restorer.info.device,
        artifact=next(iter(artifacts.values()), None),
        artifacts=artifacts,
    )
