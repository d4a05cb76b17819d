"""Routes: what the service tells about itself."""

from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from server.http.ops.limits import ServiceLimits
from server.http.ops.schemas import Health, Limits, Model, Readiness, Scheduler, ServiceDescription
from server.http.services import InjectedServices
from server.restore.pipeline import Status

OPENMETRICS = "application/openmetrics-text"

router = APIRouter()


@router.get("/", summary="What this service is")
async def describe(services: InjectedServices, response: Response) -> ServiceDescription:
    """Version, model, limits and links; browsers, which ask for HTML, get the page."""
    response.headers["Vary"] = "Accept"
    info, limits = services.restorer.info, services.limits
    model = info and Model(
        artifact=info.model.name, precision=info.model.precision, backend=info.backend, device=info.device
    )
    description = ServiceDescription(
        version=services.version,
        status=services.restorer.status,
        model=model,
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
    """Bytes, pixels, sides, formats, tiles and qualities: what an upload and its options may be."""
    info = services.restorer.info
    return ServiceLimits.of(services.settings, None if info is None else info.model.size_multiple)


@router.get("/healthz", summary="Liveness")
async def healthz() -> Health:
    """The process lives, ready or not."""
    return Health()


@router.get(
    "/readyz",
    response_model_exclude_none=True,
    summary="Readiness",
    responses={503: {"model": Readiness, "description": "Starting, draining, the backend or the jobs' disk is lost."}},
)
async def readyz(services: InjectedServices, response: Response) -> Readiness:
    """200 while restorations are taken, after the warm-up and until the drain, and jobs can be stored and read."""
    refusal, status = services.refusal, services.restorer.status
    trouble = None if services.jobs is None else services.jobs.trouble
    response.status_code = 200 if refusal is None else 503
    return Readiness(
        status="jobs-unavailable" if refusal is not None and status is Status.READY else status,
        jobs=None if trouble is None else trouble.detail,
    )


@router.get("/v1/scheduler", summary="What waits, what runs and what runs cost")
async def scheduler(services: InjectedServices) -> Scheduler:
    """The buckets, the backlog in predicted milliseconds, and each device with its runs and fitted costs."""
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
    """Every series in the Prometheus text format, or in OpenMetrics where Accept names it: that has the exemplars."""
    if services.settings.http.metrics_port is not None:
        raise HTTPException(404)
    # In a thread of the framework's: drivers of GPUs are asked, and may take their time.
    registry = services.metrics.registry
    if OPENMETRICS in accept:
        page = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return Response(page, media_type=openmetrics.CONTENT_TYPE_LATEST)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
