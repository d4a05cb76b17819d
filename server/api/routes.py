"""Routes: what the service answers to."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from server import errors
from server.api.cancellation import while_connected
from server.api.error_responses import openapi_responses
from server.api.request_context import TIMING_HEADER, note_outcome
from server.api.schemas import Health, Limits, Model, Readiness, ServiceDescription
from server.api.services import InjectedServices
from server.api.upload import BINARY_TYPES, FIELD, read_upload
from server.imaging.codec import OutputFormat
from server.restorer import Status, Timings

DEFAULT_QUALITY = 90
_LONGEST_STEM = 100

router = APIRouter()

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One still image, raw or as a form: JPEG, PNG, WebP, TIFF or BMP.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: _BINARY["schema"]},
                }
            },
            **dict.fromkeys(BINARY_TYPES, _BINARY),
        },
    }
}
_RESTORED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The restored image, exactly as wide and high as the upload (its orientation applied).",
        "content": {output.media_type: _BINARY for output in OutputFormat},
        "headers": {
            "X-Request-ID": {"description": "The id in the log.", "schema": {"type": "string"}},
            TIMING_HEADER: {
                "description": "Milliseconds of decode, queue, inference, encode and total.",
                "schema": {"type": "string"},
            },
            "Content-Disposition": {"description": "A file name for the result.", "schema": {"type": "string"}},
        },
    }
}


@router.post(
    "/restore",
    summary="Restore an image",
    response_class=Response,
    openapi_extra=_REQUEST_BODY,
    responses=_RESTORED
    | openapi_responses(
        errors.InvalidRequest,
        errors.EmptyUpload,
        errors.ImageTooLarge,
        errors.UnsupportedImage,
        errors.UndecodableImage,
        errors.QueueFull,
        errors.BackendError,
        errors.NotReady,
        errors.Draining,
        errors.DeadlineExceeded,
        errors.DeviceOutOfMemory,
    ),
)
async def restore(
    request: Request,
    services: InjectedServices,
    output: Annotated[OutputFormat, Query(alias="format", description="The kind of file of the answer.")] = (
        OutputFormat.PNG
    ),
    quality: Annotated[int, Query(ge=1, le=100, description="Of JPEG and WebP; PNG is lossless.")] = DEFAULT_QUALITY,
    deadline_ms: Annotated[
        int | None, Header(alias="X-Deadline-Ms", ge=1, description="Give up if the run has not begun by then.")
    ] = None,
) -> Response:
    """Noise, rain or haze is found and removed; the answer has exactly the upload's width and height.

    Alpha, grey, and in PNG 16 bits per channel, stay as they are.
    """
    patience_s = None if deadline_ms is None else deadline_ms / 1e3
    with services.restorer.accepted():
        upload = await read_upload(request, services.limits.max_upload_bytes)
        work = services.restorer.restore(upload.data, output, quality, patience_s)
        restored = await while_connected(request, work)
    note_outcome(request.scope, "restored")
    headers = {
        TIMING_HEADER: _server_timing(restored.timings),
        "Content-Disposition": _disposition(upload.filename, restored.output),
    }
    return Response(restored.data, media_type=output.media_type, headers=headers)


@router.get("/", summary="What this service is")
async def describe(services: InjectedServices) -> ServiceDescription:
    """Version, model, limits and links."""
    info, limits = services.restorer.info, services.limits
    model = info and Model(artifact=info.artifact, precision=info.precision, backend=info.backend, device=info.device)
    return ServiceDescription(
        version=services.version,
        status=services.restorer.status,
        model=model,
        limits=Limits(
            max_upload_bytes=limits.max_upload_bytes,
            max_image_pixels=limits.max_image_pixels,
            max_image_side=limits.max_image_side,
        ),
    )


@router.get("/healthz", summary="Liveness")
async def healthz() -> Health:
    """The process lives, ready or not."""
    return Health()


@router.get(
    "/readyz",
    summary="Readiness",
    responses={503: {"model": Readiness, "description": "Starting, draining, or the backend is lost."}},
)
async def readyz(services: InjectedServices, response: Response) -> Readiness:
    """200 while restorations are taken: after the warm-up and until the drain."""
    status = services.restorer.status
    response.status_code = 200 if status is Status.READY else 503
    return Readiness(status=status)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(services: InjectedServices) -> Response:
    """Every series in the Prometheus text format."""
    return Response(generate_latest(services.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _server_timing(timings: Timings) -> str:
    # W3C Server Timing: durations in milliseconds; the middleware adds the total.
    stages = {
        "decode": timings.decode_s,
        "queue": timings.queue_s,
        "inference": timings.inference_s,
        "encode": timings.encode_s,
    }
    entries = [f"{name};dur={seconds * 1e3:.2f}" for name, seconds in stages.items()]
    return ", ".join([*entries, f'batch;desc="{timings.batch_size}"'])


def _disposition(filename: str | None, output: OutputFormat) -> str:
    # RFC 6266: a plain ASCII name for everyone, and the true one for those who read filename*.
    stem = PurePosixPath((filename or "").replace("\\", "/")).stem[:_LONGEST_STEM]
    stem = re.sub(r"[\x00-\x1f\x7f\"]", "", stem)
    name = f"{stem}-restored{output.suffix}" if stem else f"restored{output.suffix}"
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    disposition = f'inline; filename="{plain}"'
    return disposition if plain == name else f"{disposition}; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
