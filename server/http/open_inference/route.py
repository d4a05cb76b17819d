"""Infer route: `POST /v2/models/{model}/infer`, from the first bytes of the body to the answer, and its OpenAPI."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any

from fastapi import Header
from fastapi.routing import APIRoute
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from server import errors
from server.concurrency import run_off_loop
from server.errors.problem import status_of
from server.http.body.body import UploadRoom
from server.http.body.compression import wanted_encoding
from server.http.body.upload_route import Exchange, UploadRoute
from server.http.middleware.request_context import SERVER_TIMING
from server.http.open_inference.incoming import Incoming
from server.http.open_inference.schemas import (
    ROOT,
    InferRequest,
    InferResponse,
    ModelName,
    ModelVersion,
    ProtocolError,
)
from server.http.open_inference.wire import HEADER_LENGTH, Head, PiecewiseResponse, read_head, write_answer
from server.http.restore.answer import RESTORE_MODE, server_timing
from server.http.restore.route import HOLD_S
from server.http.services import Services
from server.open_inference.inference import Call, Inference, Outcome, Reserve
from server.restore.byte_room import Reservation
from server.tracing import stage

METHOD = "POST"
PATHS = (f"{ROOT}/models/{{model}}/infer", f"{ROOT}/models/{{model}}/versions/{{version}}/infer")


class InferRoute(UploadRoute):
    """Runs tensors: the JSON decides before binary data after it is read.

    A request is refused by shape or by load, or gets its ticket. The data takes up room for uploads until it is
    restored, since tiles are cut from it.
    """

    def __init__(self, services: Services, room: UploadRoom) -> None:
        super().__init__(services, room)
        self._inference = Inference(services.restorer, services.limits)

    async def answer(self, exchange: Exchange) -> tuple[str, ASGIApp]:
        """Run the request, and answer piece by piece; the results take up room until they are sent."""
        headers = exchange.headers
        with self._services.restorer.accepted(), ExitStack() as held:
            reserve = held.enter_context(Reservation(self._room)).take
            incoming = Incoming(headers, exchange.body, self._room)
            try:
                head, call, outcome = await self._infer(exchange, incoming, reserve)
            finally:
                incoming.release()
            response = await _response(head, call, outcome, wanted_encoding(headers))
            return "restored", _Holding(response, held.pop_all())

    async def _infer(self, exchange: Exchange, incoming: Incoming, reserve: Reserve) -> tuple[Head, Call, Outcome]:
        path = exchange.scope["path_params"]
        with ExitStack() as held:
            with stage("upload"):
                text = await incoming.text()
                head = await run_off_loop(partial(read_head, text), len(text))
                del text  # the parsed document alone is kept
                document = head.document
                call = self._inference.call(
                    path["model"],
                    path.get("version", ""),
                    document.id,
                    document.parameters,
                    head.inputs,
                    head.outputs,
                    exchange.caller,
                )
                held.enter_context(call.request).lapse_after(HOLD_S)
                head.check(call.shape)
                binary = await incoming.binary()
            with exchange.while_connected():
                images = partial(head.images, call.shape, binary)
                outcome = await self._inference.run(call, images, incoming.size, reserve)
        return head, call, outcome


class _Holding:
    """Sends a response, and then gives back the room of its results; the response drops them piece by piece."""

    def __init__(self, response: Response, held: ExitStack) -> None:
        self._response = response
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            await self._response(scope, receive, send)


async def _response(head: Head, call: Call, outcome: Outcome, encoding: str | None) -> Response:
    written = await run_off_loop(lambda: write_answer(call, outcome, head.wants_binary), outcome.size)
    headers = {
        SERVER_TIMING.decode(): server_timing(outcome.timings).decode(),
        RESTORE_MODE.decode(): outcome.mode.value,
    }
    if written.json_length is not None:
        headers[HEADER_LENGTH.decode()] = str(written.json_length)
    media_type = "application/json" if written.json_length is None else "application/octet-stream"
    return PiecewiseResponse(written, headers, media_type, encoding)


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
    """Describe the routes to FastAPI's generator."""
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


def infer_schemas() -> dict[str, Any]:
    """Return the schemas that only these routes refer to."""
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
    """Finds and removes noise, rain or haze. Each of the N images is restored on its own and keeps its size."""


def _infer_version(model: ModelName, version: ModelVersion, length: _Length = None) -> None:
    """The same, by the version of the model."""


_ENDPOINTS: tuple[Callable[..., None], ...] = (_infer, _infer_version)
