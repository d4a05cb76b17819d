"""Tests of answers that are serialized without a copy, held against the library's own reading."""

import numpy as np
import pytest

from server.errors import InvalidRequest
from server.grpc import wire
from server.grpc.messages import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from server.open_inference.inference import Call, Outcome
from server.open_inference.models import Datatype
from server.open_inference.tensors import Shape
from server.restore.options import Mode, Timings
from server.restore.request import RestoreRequest


@pytest.mark.parametrize("side", [1, 2, 7, 100, 700], ids=str)
def test_a_raw_answer_is_what_the_library_reads(side: int) -> None:
    pixels = np.random.default_rng(side).integers(0, 256, (2, 3, side, side), np.uint8)
    shape = Shape(Datatype.UINT8, pixels.shape)
    call = Call("promptir", "the id", shape, RestoreRequest())
    outcome = Outcome(list(pixels), Datatype.UINT8, pixels.shape, Mode.WHOLE, Timings(0, 0, 0, 0, 1))
    data = wire.answer(call, outcome, is_raw=True)
    for response in (
        ModelInferResponse.FromString(data),
        ModelStreamInferResponse.FromString(wire.stream_answer(data)).infer_response,
    ):
        assert (response.id, list(response.outputs[0].shape)) == ("the id", list(pixels.shape))
        assert response.raw_output_contents[0] == pixels.tobytes()


@pytest.mark.parametrize("datatype", list(Datatype))
@pytest.mark.parametrize("field", ["int_contents", "int64_contents", "uint64_contents", "fp64_contents"])
def test_numbers_in_a_field_of_another_type_are_refused(datatype: Datatype, field: str) -> None:
    request = ModelInferRequest(model_name="promptir")
    tensor = request.inputs.add(name="image", datatype=datatype.value)
    getattr(tensor.contents, field).append(10)
    shape = Shape(datatype, (1,) if datatype is Datatype.BYTES else (1, 3, 1, 1))
    with pytest.raises(InvalidRequest, match=f"has {field}; its values are "):
        wire.images_of(request, shape)
