"""Wire: requests and answers of the protocol in HTTP: JSON, and binary data that may follow it."""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.concurrency import INLINE_BYTES, run_off_loop
from server.errors import InvalidRequest
from server.http.body.compression import deflated
from server.http.open_inference.schemas import InferRequest
from server.open_inference.inference import Call, Named, Outcome
from server.open_inference.models import INPUT, OUTPUT, VERSION, Datatype
from server.open_inference.tensors import MAX_VALUES, Images, Shape, from_raw, from_values, raw_of, raw_size
from server.restore.frame import Frames

HEADER_LENGTH = b"inference-header-content-length"
BINARY_SIZE, BINARY_DATA, BINARY_OUTPUT = "binary_data_size", "binary_data", "binary_data_output"
# Numbers are written this many at a time, so that other threads can run in between.
_STEP = 8192
PIECE_BYTES = 3 * 2**18
"""Sent at a time: a multiple of three, so that pieces of base64 can be joined."""
MAX_LISTS = 2**14
"""Most lists, objects and members in the JSON of a request: each becomes an object in memory."""


@dataclass(frozen=True, slots=True)
class Head:
    """The JSON of a request, with its form checked."""

    document: InferRequest
    is_binary: bool
    """Whether the data of the input follows the JSON."""

    @property
    def inputs(self) -> list[Named]:
        return [Named(each.name, each.parameters, each.datatype, each.shape) for each in self.document.inputs]

    @property
    def outputs(self) -> list[Named]:
        return [Named(each.name, each.parameters) for each in self.document.outputs]

    @property
    def wants_binary(self) -> bool:
        """Whether the output is wanted as binary data after the JSON of the answer."""
        wanted = bool(self.document.parameters.get(BINARY_OUTPUT, False))
        return any(bool(each.parameters.get(BINARY_DATA, wanted)) for each in self.document.outputs or ()) or (
            wanted and not self.document.outputs
        )

    def check(self, shape: Shape) -> None:
        """Raise InvalidRequest for data that comes twice or has not the size of the shape, or that JSON cannot hold."""
        if self.is_binary:
            if self.document.inputs[0].data is not None:
                raise InvalidRequest(f"{INPUT} has both data and {BINARY_SIZE}: send it in the JSON or behind it.")
            shape.check_byte_size(_binary_size(self.document.inputs[0].parameters))
        if shape.datatype is not Datatype.BYTES and shape.values > MAX_VALUES and not self.wants_binary:
            raise InvalidRequest(
                f"The answer has {shape.values} numbers, and as JSON at most {MAX_VALUES} are written: ask for it with "
                f"`{BINARY_OUTPUT}`.",
                max_values=MAX_VALUES,
            )

    def images(self, shape: Shape, binary: memoryview) -> Images:
        """Read the data of the input, from the JSON or from the binary data after it; raises InvalidRequest."""
        if not self.is_binary:
            if binary:
                raise InvalidRequest(f"{len(binary)} bytes follow the JSON, and no input has a {BINARY_SIZE}.")
            tensor = self.document.inputs[0]
            values, tensor.data = tensor.data, None  # or text would be held beside the files that it becomes
            return from_values(shape, values)
        size = _binary_size(self.document.inputs[0].parameters)
        if size != len(binary):
            raise InvalidRequest(f"{len(binary)} bytes follow the JSON, and {BINARY_SIZE} says {size}.")
        return from_raw(shape, binary)


def header_length(headers: Mapping[bytes, bytes]) -> int | None:
    """Return the length of the JSON if binary data follows it, otherwise None; raises InvalidRequest."""
    given = headers.get(HEADER_LENGTH)
    if given is None:
        return None
    if not given.isdigit() or not 0 < int(given) < 2**31:
        raise InvalidRequest("Inference-Header-Content-Length must be the number of bytes of the JSON.")
    return int(given)


def read_head(text: bytes) -> Head:
    """Parse the JSON of a request; raises InvalidRequest."""
    values = text.count(b",")
    if values > MAX_VALUES:
        raise InvalidRequest(
            f"The JSON holds {values} values; at most {MAX_VALUES} are read: send tensors as binary data.",
            max_values=MAX_VALUES,
        )
    if (lists := text.count(b"[") + text.count(b"{") + text.count(b":")) > MAX_LISTS:
        raise InvalidRequest(
            f"The JSON holds {lists} lists, objects and members of objects; at most {MAX_LISTS} are read: send the "
            "values flat or as binary data.",
            max_lists=MAX_LISTS,
        )
    try:
        document = InferRequest.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'the JSON'}: {fault['msg']}" for fault in found[:3]]
        raise InvalidRequest("; ".join(faults)) from None
    return Head(document, any(BINARY_SIZE in each.parameters for each in document.inputs))


@dataclass(frozen=True, slots=True)
class Written:
    """The body of an answer, encoded while it is sent: a copy of the results would double their memory."""

    json_length: int | None
    """Set if binary data follows the JSON."""
    size: int
    pieces: Iterator[bytes | memoryview]


def write_answer(call: Call, outcome: Outcome, is_binary: bool) -> Written:
    """Write the answer to a call: the JSON at once, images and files as their pieces are read."""
    output: dict[str, Any] = {"name": OUTPUT, "datatype": outcome.datatype.value, "shape": list(outcome.dims)}
    document: dict[str, Any] = {"model_name": call.model, "model_version": VERSION}
    if call.id:
        document["id"] = call.id
    document |= {"parameters": outcome.told, "outputs": [output]}
    if is_binary:
        size = raw_size(outcome.images)
        output["parameters"] = {BINARY_SIZE: size}
        text = json.dumps(document).encode()
        return Written(len(text), len(text) + size, chain([text], _sliced(raw_of(outcome.images))))
    if outcome.datatype is Datatype.BYTES:
        output["parameters"] = {"content_type": "base64"}
    # The data is appended to the members of the output: one dump of millions of numbers would block all threads.
    begin, end = f'{json.dumps(document)[:-3]}, "data": ['.encode(), b"]}]}"
    if outcome.datatype is Datatype.BYTES:
        files = [memoryview(bytes(image)) for image in outcome.images]
        size = len(begin) + sum(2 + _base64_size(len(file)) for file in files) + len(files) - 1 + len(end)
        return Written(None, size, chain([begin], _in_base64(files), [end]))
    values = ",".join(part for image in outcome.images for part in _parts(np.asarray(image))).encode()
    return Written(None, len(begin) + len(values) + len(end), chain([begin], _sliced([values]), [end]))


class PiecewiseResponse(Response):
    """Sends an answer piece by piece, while it is encoded; compressed if `encoding` is set."""

    def __init__(self, written: Written, headers: Mapping[str, str], media_type: str, encoding: str | None) -> None:
        known = dict(headers)
        self._pieces: Iterator[bytes | memoryview] = written.pieces
        self._size = min(written.size, PIECE_BYTES)
        if encoding is None:
            known["content-length"] = str(written.size)
        else:
            known["content-encoding"] = encoding
            self._pieces = deflated(written.pieces, encoding)
        if written.size <= INLINE_BYTES:  # as one message, like other answers
            self._pieces = iter([b"".join(self._pieces)])
        self.status_code, self.media_type, self.background = 200, media_type, None
        self.init_headers(known)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        step: Callable[[], bytes | memoryview | None] = lambda: next(self._pieces, None)  # noqa: E731
        piece = await run_off_loop(step, self._size)
        while piece is not None:
            following = await run_off_loop(step, self._size)
            await send({"type": "http.response.body", "body": bytes(piece), "more_body": following is not None})
            piece = following


def _sliced(parts: Iterable[bytes]) -> Iterator[memoryview]:
    for part in parts:
        view = memoryview(part)
        for at in range(0, len(view), PIECE_BYTES):
            yield view[at : at + PIECE_BYTES]


def _in_base64(files: Iterable[memoryview]) -> Iterator[bytes]:
    for number, file in enumerate(files):
        yield b',"' if number else b'"'
        for at in range(0, len(file), PIECE_BYTES):
            yield base64.b64encode(file[at : at + PIECE_BYTES])
        yield b'"'


def _base64_size(size: int) -> int:
    return 4 * -(-size // 3)


def _parts(image: Frames) -> Iterator[str]:
    flat = image.reshape(-1)
    for at in range(0, len(flat), _STEP):
        yield json.dumps(flat[at : at + _STEP].tolist(), separators=(",", ":"))[1:-1]


def _binary_size(parameters: Mapping[str, Any]) -> int:
    size = parameters.get(BINARY_SIZE)
    if not isinstance(size, int) or size < 0:
        raise InvalidRequest(f"{BINARY_SIZE} must be a number of bytes.")
    return size
