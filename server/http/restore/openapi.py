"""The OpenAPI part of `POST /restore`, which no framework route answers."""

from typing import Annotated, Any

from fastapi import Header, Query, Response
from fastapi.routing import APIRoute

from server import errors, formats
from server.formats.output import OutputFormat
from server.http.body.form import FIELD
from server.http.body.upload import BINARY_TYPES
from server.http.error_responses import openapi_responses
from server.http.restore.options import RestoreHeaders, RestoreQuery
from server.http.restore.route import METHOD, PATH
from server.restore.options import Mode

_BINARY = {"schema": {"type": "string", "format": "binary"}}
# Bytes come first, under the name that every client generator knows: many generators use only the first type, and a
# client generated for JSON could not read an image.
IMAGES: dict[str, Any] = {
    "application/octet-stream": _BINARY,
    **{output.media_type: _BINARY for output in OutputFormat},
}
REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"One still image, raw or as a form: {formats.listing(formats.NAMES, 'or')}.",
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
UPLOAD_ERRORS = (
    errors.InvalidRequest,
    errors.UnknownModel,
    errors.EmptyUpload,
    errors.NotAcceptable,
    errors.UploadStalled,
    errors.ImageTooLarge,
    errors.UnsupportedImage,
    errors.UndecodableImage,
    errors.QueueFull,
    errors.NotReady,
    errors.Draining,
    errors.MemoryShort,
)
"""The errors of an upload at any route."""

DROPPED_HEADER = {
    "description": "Parts of the upload that the answer lacks, such as `gain-map, motion-video`; absent if there are "
    "none.",
    "schema": {"type": "string"},
}
MODEL_HEADER = {
    "description": "The name of the model that restored it, percent-encoded.",
    "schema": {"type": "string"},
}
_RESTORED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The restored image, exactly as wide and high as the upload (its orientation applied), under "
        "its own media type. With `report`: `multipart/mixed`, JSON and then the image, or a `ReportWithImage` where "
        "Accept asks for JSON.",
        "content": IMAGES | {"*/*": {}},
        "headers": {
            "X-Request-ID": {"description": "The id in the log.", "schema": {"type": "string"}},
            "Server-Timing": {
                "description": "Milliseconds of decode, queue, inference, encode and total.",
                "schema": {"type": "string"},
            },
            "Content-Disposition": {"description": "A file name for the result.", "schema": {"type": "string"}},
            "X-Restore-Mode": {
                "description": "`tiled` where the photo ran in several pieces, which changes the answer a little.",
                "schema": {"type": "string", "enum": [mode.value for mode in Mode]},
            },
            "X-Restore-Model": MODEL_HEADER,
            "X-Restore-Padded-Shape": {
                "description": "The shape each image ran in, such as `640x512; mixed-size`: `mixed-size` where several "
                "sizes shared it, which changes nothing in the answer.",
                "schema": {"type": "string"},
            },
            "X-Degradations": {
                "description": "The probability of each degradation that the network found, such as "
                "`noise=0.981, jpeg=0.210`; absent where the model names none.",
                "schema": {"type": "string"},
            },
            "X-Restore-Dropped": DROPPED_HEADER,
            "ETag": {
                "description": "Names the answer by the upload, the options and the model.",
                "schema": {"type": "string"},
            },
        },
    },
    304: {"description": "If-None-Match names the answer: the client has it."},
}


_DEEP = [output.file_format.name for output in OutputFormat if output.encoder.depth == 16]
_DESCRIPTION = f"""Finds and removes noise, rain or haze; the answer has exactly the width and height of the upload.

Alpha, grey, and 16 bits per channel in {formats.listing(_DEEP, "and")} are kept. Large photos are restored in tiles.
Equal requests in flight run once.
"""


def restore_document() -> APIRoute:
    """Describe the route to FastAPI's generator; its parameters are the models that the real route checks with."""
    return APIRoute(
        PATH,
        _restore,
        methods=[METHOD],
        summary="Restore an image",
        operation_id="restore",
        description=_DESCRIPTION,
        response_class=Response,
        openapi_extra=REQUEST_BODY,
        responses=_RESTORED
        | openapi_responses(
            *UPLOAD_ERRORS,
            errors.UnsupportedSize,
            errors.DeadlineUnmet,
            errors.BackendError,
            errors.DeadlineExceeded,
            errors.DeviceOutOfMemory,
        ),
    )


def _restore(query: Annotated[RestoreQuery, Query()], urgency: Annotated[RestoreHeaders, Header()]) -> None:
    """Declare the parameters; the real route answers."""
