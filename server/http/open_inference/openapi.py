"""Infer document: what OpenAPI says about the infer routes, which no framework route answers."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Header
from fastapi.routing import APIRoute
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from server import errors
from server.http.error_responses import status_of
from server.http.open_inference.route import METHOD, PATHS
from server.http.open_inference.schemas import InferRequest, InferResponse, ModelName, ModelVersion, ProtocolError

_ERRORS = (
    errors.InvalidRequest,
    errors.UnknownModel,
    errors.UploadStalled,
    errors.ImageTooLarge,
    errors.UnsupportedEncoding,
    errors.UnsupportedImage,
    errors.UndecodableImage,
    errors.QueueFull,
    errors.BackendError,
    errors.NotReady,
    errors.DeadlineExceeded,
    errors.DeviceOutOfMemory,
)
_BINARY = {"schema": {"type": "string", "format": "binary", "description": "The JSON, then the tensors' bytes."}}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferRequest"}},
            "application/octet-stream": _BINARY,
        },
    }
}


def infer_documents() -> list[APIRoute]:
    """Routes for FastAPI's generator only."""
    return [
        APIRoute(
            path,
            endpoint,
            methods=[METHOD],
            summary="Restore the images of a tensor",
            tags=["open inference protocol"],
            operation_id=endpoint.__name__.strip("_"),
            openapi_extra=_BODY,
            response_model=InferResponse,
            responses=_responses(),
        )
        for path, endpoint in zip(PATHS, _ENDPOINTS, strict=True)
    ]


def schemas() -> dict[str, Any]:
    """The schemas that only these documents refer to."""
    request: dict[str, Any] = InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    nested: dict[str, Any] = request.pop("$defs")
    return nested | {"InferRequest": request}


def _responses() -> dict[int | str, dict[str, Any]]:
    responses: dict[int | str, dict[str, Any]] = {
        200: {"description": "The restored images.", "content": {"application/octet-stream": _BINARY}}
    }
    for kind in _ERRORS:
        one = responses.setdefault(status_of(kind), {"model": ProtocolError, "description": ""})
        one["description"] = f"{one['description']}\n\n**{kind.title}**. {(kind.__doc__ or '').splitlines()[0]}".strip()
    return responses


_Length = Annotated[
    Annotated[int, Field(gt=0)] | SkipJsonSchema[None],
    Header(alias="Inference-Header-Content-Length", description="Bytes of the JSON, where binary data follows.", gt=0),
]


def _infer(model: ModelName, length: _Length = None) -> None:
    """Noise, rain or haze is found and removed. Each of the N images is a job of its own, of the size it came in."""


def _infer_version(model: ModelName, version: ModelVersion, length: _Length = None) -> None:
    """The same, by the version that there is."""


_ENDPOINTS: tuple[Callable[..., None], ...] = (_infer, _infer_version)
