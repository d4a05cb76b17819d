"""Edits route: `POST /v1/images/edits`, which unmodified clients of OpenAI's image API can call."""

import base64
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from server.access.caller import Caller
from server.concurrency import gather
from server.errors import InvalidRequest
from server.http.body.compression import as_sent
from server.http.body.form import is_form, no_file
from server.http.body.form_files import read_form
from server.http.body.upload import Upload
from server.http.body.upload_route import Exchange, UploadRoute
from server.http.openai.options import EditOptions, read_edit_options
from server.http.openai.schemas import PATH, ImagesResponse, OpenAIError
from server.restore.options import Restored
from server.restore.request import RestoreRequest
from server.scheduling.queue.tile import Priority
from server.tracing import stage

METHOD = "POST"
MOST_IMAGES = 16
_IMAGE, _MASK = "image", "mask"
_NAMES = {_IMAGE: _IMAGE, f"{_IMAGE}[]": _IMAGE, _MASK: _MASK}


class EditsRoute(UploadRoute):
    """Restores every `image` of a form; a mask, a prompt and the name of another model change nothing."""

    path = PATH

    async def answer(self, exchange: Exchange) -> tuple[str, ASGIApp]:
        """Restore the images of the form, and answer with them in one JSON document."""
        if not is_form(exchange.headers):
            raise InvalidRequest("The body must be a multipart form with a file in the field `image`.", param=_IMAGE)
        sent = as_sent(exchange.headers, exchange.body, self._room)
        with self._services.restorer.accepted():
            try:
                with stage("upload"):
                    form = await read_form(exchange.headers, sent, _NAMES, MOST_IMAGES + 1)
                images = [upload for name, upload in form.files if name == _IMAGE]
                if not images:
                    rule = f"{no_file(form.fields, _IMAGE).detail} It takes 1 to {MOST_IMAGES}."
                    raise InvalidRequest(rule, param=_IMAGE)
                if len(images) > MOST_IMAGES:
                    rule = f"The form has {len(images)} files in the field `image`; it takes 1 to {MOST_IMAGES}."
                    raise InvalidRequest(rule, param=_IMAGE)
                options = read_edit_options(form.fields, self._services.restorer.models, form.repeated)
                del form
                with exchange.while_connected():
                    results = await gather(self._restore(image, options, exchange.caller) for image in images)
                return "restored", _PiecesResponse(list(_document(results, options)))
            finally:
                sent.release()

    async def _restore(self, image: Upload, options: EditOptions, caller: Caller | None) -> Restored:
        restorer = self._services.restorer
        request = RestoreRequest(options.restore, None, Priority.INTERACTIVE, caller)
        try:
            header = await restorer.inspect(image.data, request)
            request.charge(header.decoded_pixels)
        except BaseException:
            request.close()
            raise
        return await restorer.restore(image.data, request)


class _PiecesResponse:
    """Sends a JSON document in pieces, which are not put together first."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = str(sum(map(len, self._pieces))).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _document(results: Sequence[Restored], options: EditOptions) -> Iterator[bytes]:
    """Write the answer in pieces, since an image that is returned several times is held once."""
    head = json.dumps({"created": int(time.time()), "output_format": options.output.value})
    yield head[:-1].encode() + b', "data": ['
    first = True
    for restored in results:
        entry = b'{"b64_json": "%b"}' % base64.b64encode(restored.data)
        for _ in range(options.copies):
            if not first:
                yield b", "
            yield entry
            first = False
    yield b"]}"


def _edit() -> None:
    """Restore every `image`, and return the files in base64.

    `output_format`, `output_compression`, `n`, `response_format` (`b64_json`) and `strength` (0 to 1, of this server)
    have an effect, and `model` if it is one of this server's. `prompt`, `mask`, `size`, `quality`, `background` and
    `user` are accepted and ignored: the network finds the degradation itself, and a result has the size of its upload.
    """


def edits_document() -> APIRoute:
    """Describe the route to FastAPI's generator."""
    file = {"type": "string", "format": "binary"}
    properties: dict[str, Any] = {
        _IMAGE: {"type": "array", "items": file, "maxItems": MOST_IMAGES},
        "prompt": {},
        "model": {"description": "A name in `models` of `GET /`; any other is ignored."},
        "n": {"type": "integer", "minimum": 1, "maximum": 10},
        "response_format": {"type": "string", "enum": ["b64_json"]},
        "output_format": {"type": "string", "enum": ["png", "jpeg", "webp"]},
        "output_compression": {"type": "integer", "minimum": 0, "maximum": 100},
    }
    schema = {"type": "object", "required": [_IMAGE], "properties": properties}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}
    statuses = (400, 401, 403, 408, 413, 415, 422, 429, 500, 503, 504, 507)
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": "An error in OpenAI's form.", "content": content} for status in statuses
    }
    return APIRoute(
        PATH,
        _edit,
        methods=[METHOD],
        summary="Restore images as OpenAI's image edits",
        operation_id="edit_images",
        tags=["openai"],
        response_model=ImagesResponse,
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}},
        responses=responses,
    )


def edits_schemas() -> dict[str, Any]:
    """Return the schemas that the description refers to."""
    schema = OpenAIError.model_json_schema(ref_template="#/components/schemas/{model}")
    parts: dict[str, Any] = schema.pop("$defs")
    return parts | {"OpenAIError": schema}
