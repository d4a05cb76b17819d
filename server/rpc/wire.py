"""Wire: requests and answers of the protocol as messages."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from server.errors import InvalidRequest
from server.open_inference.inference import Call, Named, Outcome
from server.open_inference.models import INPUT, OUTPUT, VERSION, Datatype
from server.open_inference.tensors import MAX_VALUES, Images, Shape, from_raw, from_values, raw_of
from server.rpc.messages import ModelInferResponse

_CONTENTS = {
    Datatype.FP32: "fp32_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.BYTES: "bytes_contents",
}


def inputs_of(request: Any) -> list[Named]:
    """What a ModelInferRequest says of its inputs."""
    return [Named(each.name, plain(each.parameters), each.datatype, list(each.shape)) for each in request.inputs]


def outputs_of(request: Any) -> list[Named]:
    """What it says of its outputs."""
    return [Named(each.name, plain(each.parameters)) for each in request.outputs]


def plain(parameters: Mapping[str, Any]) -> dict[str, object]:
    """Parameters as Python values."""
    chosen = {name: each.WhichOneof("parameter_choice") for name, each in parameters.items()}
    return {name: getattr(parameters[name], choice) for name, choice in chosen.items() if choice is not None}


def images_of(request: Any, shape: Shape) -> Images:
    """The data of its input, raw or typed; raises InvalidRequest."""
    raw, contents = request.raw_input_contents, request.inputs[0].contents
    if len(raw) > 1 or (raw and contents.ListFields()):
        raise InvalidRequest(f"{INPUT} comes once: as raw contents or as typed ones.")
    if raw:
        return from_raw(shape, raw[0])
    values = getattr(contents, _CONTENTS[shape.datatype])
    if len(values) > MAX_VALUES:
        raise InvalidRequest(f"{INPUT} has {len(values)} typed values; at most {MAX_VALUES} are taken: send it raw.")
    return from_values(shape, list(values))


def answer(call: Call, outcome: Outcome, *, is_raw: bool) -> Any:
    """The ModelInferResponse of a call, its data in the form that the request had."""
    response = ModelInferResponse(model_name=call.model, model_version=VERSION, id=call.id)
    response.parameters["mode"].string_param = outcome.mode.value
    output = response.outputs.add(name=OUTPUT, datatype=outcome.datatype.value, shape=outcome.dims)
    if is_raw:
        response.raw_output_contents.append(b"".join(raw_of(outcome.images)))
        return response
    values = getattr(output.contents, _CONTENTS[outcome.datatype])
    for image in outcome.images:
        values.extend([image] if isinstance(image, bytes) else np.asarray(image).reshape(-1).tolist())
    return response
