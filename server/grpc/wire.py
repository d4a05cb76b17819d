"""Wire: requests and answers of the protocol as gRPC messages."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from server.errors import InvalidRequest
from server.grpc.messages import ModelInferResponse, ModelStreamInferResponse
from server.open_inference.inference import Call, Named, Outcome
from server.open_inference.models import INPUT, OUTPUT, VERSION, Datatype
from server.open_inference.tensors import (
    MAX_VALUES,
    Images,
    Shape,
    from_elements,
    from_raw,
    from_values,
    raw_of,
    raw_size,
)

_CONTENTS = {
    Datatype.FP32: "fp32_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.BYTES: "bytes_contents",
}
# Field numbers in open_inference.proto, and the wire type of bytes and messages.
_RAW_OUTPUT, _STREAM_ANSWER = 6, 2
_LENGTH_DELIMITED = 2


def inputs_of(request: Any) -> list[Named]:
    """Return the inputs that a ModelInferRequest names."""
    return [Named(each.name, plain(each.parameters), each.datatype, list(each.shape)) for each in request.inputs]


def outputs_of(request: Any) -> list[Named]:
    """Return the outputs that a ModelInferRequest names."""
    return [Named(each.name, plain(each.parameters)) for each in request.outputs]


def plain(parameters: Mapping[str, Any]) -> dict[str, object]:
    """Convert parameters to Python values."""
    chosen = {name: each.WhichOneof("parameter_choice") for name, each in parameters.items()}
    return {name: getattr(parameters[name], choice) for name, choice in chosen.items() if choice is not None}


def images_of(request: Any, shape: Shape) -> Images:
    """Read the data of the input, raw or typed; raises InvalidRequest."""
    raw, contents = request.raw_input_contents, request.inputs[0].contents
    if len(raw) > 1 or (raw and contents.ListFields()):
        raise InvalidRequest(f"{INPUT} comes once: as raw contents or as typed ones.")
    if raw:
        return from_raw(shape, raw[0])
    kind = _CONTENTS[shape.datatype]
    if others := [field.name for field, _ in contents.ListFields() if field.name != kind]:
        raise InvalidRequest(f"{INPUT} is {shape.datatype} and has {others[0]}; its values are {kind}.")
    values = getattr(contents, kind)
    if len(values) > MAX_VALUES:
        raise InvalidRequest(f"{INPUT} has {len(values)} typed values; at most {MAX_VALUES} are taken: send it raw.")
    return from_elements(shape, list(values)) if shape.datatype is Datatype.BYTES else from_values(shape, list(values))


def answer(call: Call, outcome: Outcome, *, is_raw: bool) -> bytes:
    """Serialize the ModelInferResponse of a call, with its data in the form of the request."""
    response = ModelInferResponse(model_name=call.model, model_version=VERSION, id=call.id)
    for name, value in outcome.told.items():
        response.parameters[name].string_param = value
    output = response.outputs.add(name=OUTPUT, datatype=outcome.datatype.value, shape=outcome.dims)
    if is_raw:
        # Written by hand: the library would copy the pixels twice.
        return b"".join(
            (response.SerializeToString(), _begin(_RAW_OUTPUT, raw_size(outcome.images)), *raw_of(outcome.images))
        )
    values = getattr(output.contents, _CONTENTS[outcome.datatype])
    for image in outcome.images:
        values.extend([image] if isinstance(image, bytes) else np.asarray(image).reshape(-1).tolist())
    serialized: bytes = response.SerializeToString()
    return serialized


def stream_answer(answer: bytes) -> bytes:
    """Wrap a serialized ModelInferResponse in a ModelStreamInferResponse."""
    return _begin(_STREAM_ANSWER, len(answer)) + answer


def stream_error(detail: str, request_id: str) -> bytes:
    """Serialize the ModelStreamInferResponse of an error."""
    response = ModelStreamInferResponse(error_message=detail)
    response.infer_response.id = request_id
    serialized: bytes = response.SerializeToString()
    return serialized


def _begin(number: int, size: int) -> bytes:
    """Encode the start of a field, before its bytes: number and type, and size, as varints."""
    return bytes([number << 3 | _LENGTH_DELIMITED]) + _varint(size)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
