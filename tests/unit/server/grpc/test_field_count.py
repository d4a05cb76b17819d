"""Tests of the count of fields before a message is parsed."""

import pytest
from tritonclient.grpc import service_pb2

from server.errors import InvalidRequest
from server.grpc import messages
from server.grpc.field_count import MAX_CONTENTS_BYTES, MAX_FIELDS, check_fields

MANY = MAX_FIELDS * 2


def varint(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded, number = encoded + bytes([number & 0x7F | 0x80]), number >> 7
    return encoded + bytes([number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


HEAD = field(1, b"promptir")
PARAMETER = field(4, field(1, b"a") + field(2, b""))
SMALL = {
    "inputs": b"\x2a\x00" * MANY,
    "outputs": b"\x32\x00" * MANY,
    "raw contents": b"\x3a\x00" * MANY,
    "parameters": PARAMETER * MANY,
    "unknown fields": b"\xf8\x01\x01" * MANY,
    "names again and again": b"\x0a\x00" * MANY,
    "parameters of an input": field(5, PARAMETER * MANY),
    "parameters of an output": field(6, field(2, field(1, b"a")) * MANY),
    "values of a parameter": field(4, field(2, b"\x10\x01" * MANY)),
    "dimensions one by one": field(5, b"\x18\x01" * MANY),
    "dimensions": field(5, field(3, b"\x01" * MANY)),
    "contents one by one": field(5, field(5, b"\x20\x01" * MANY)),
    "empty files": field(5, field(5, b"\x42\x00" * MANY)),
    "contents in pieces": field(5, field(5, field(4, b"\x01")) * MANY),
    "numbers": field(5, field(5, field(4, b"\x01" * (MAX_CONTENTS_BYTES + 1)))),
    "numbers of several kinds": field(5, field(5, field(4, bytes(MAX_CONTENTS_BYTES)) + field(1, bytes(9)))),
    "groups": b"\x7b\x7c" * MANY,
}


@pytest.mark.parametrize("small", SMALL.values(), ids=SMALL)
def test_what_is_small_on_the_wire_and_large_in_memory_is_refused(small: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"1024 fields|shape of|at most 524288 numbers"):
        check_fields(HEAD + small)


@pytest.mark.parametrize(
    "broken",
    [b"\xff\xff\xff", b"\x2a", b"\x2a\x05ab", b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x09\x00"],
)
def test_what_is_no_message_is_said_to_be_none(broken: bytes) -> None:
    with pytest.raises(InvalidRequest, match="is not a ModelInferRequest"):
        check_fields(HEAD + broken)


def test_the_largest_requests_of_a_real_client_pass() -> None:
    files = service_pb2.ModelInferRequest(model_name="promptir", raw_input_contents=[bytes(2**20)])
    for number in range(30):
        files.parameters[f"own-{number}"].string_param = "x" * 200
    tensor = files.inputs.add(name="image", datatype="BYTES", shape=[64, 1])
    tensor.parameters["binary"].bool_param = True
    files.outputs.add(name="restored").parameters["wanted"].double_param = 0.5
    numbers = service_pb2.ModelInferRequest(model_name="promptir")
    typed = numbers.inputs.add(name="image", datatype="FP32", shape=[1, 3, 418, 418])
    typed.contents.fp32_contents.extend([0.5] * (3 * 418 * 418))
    several = service_pb2.ModelInferRequest(model_name="promptir")
    several.inputs.add(name="image", datatype="BYTES", shape=[64]).contents.bytes_contents.extend([bytes(9000)] * 64)
    for request in (files, numbers, several):
        data = request.SerializeToString()
        check_fields(data)
        assert messages.parsed(messages.ModelInferRequest, data).model_name == "promptir"
