"""Tests of the messages: what goes over the wire is what the published clients send and read."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor
from tritonclient.grpc import model_config_pb2, service_pb2

from server.grpc import messages

FOLDER = Path(messages.__file__).parent
PROTOS = ("open_inference.proto", "health.proto")


def test_the_compiled_protocol_is_that_of_the_files(tmp_path: Path) -> None:
    out = tmp_path / "compiled"
    compiler = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(FOLDER), f"--descriptor_set_out={out}", *PROTOS]
    subprocess.run(compiler, check=True)
    assert out.read_bytes() == (FOLDER / messages.COMPILED).read_bytes(), "run `make protocol`"


@pytest.mark.parametrize(
    "name", [each.name for each in messages.ModelInferRequest.DESCRIPTOR.file.message_types_by_name.values()]
)
def test_every_message_has_the_names_and_numbers_of_tritons(name: str) -> None:
    published = {**service_pb2.DESCRIPTOR.message_types_by_name, **model_config_pb2.DESCRIPTOR.message_types_by_name}
    _compare(messages.message(name).DESCRIPTOR, published[name])


def test_every_method_is_one_of_tritons() -> None:
    ours = messages.ModelInferRequest.DESCRIPTOR.file.services_by_name["GRPCInferenceService"]
    published = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for method in ours.methods:
        other = published.methods_by_name[method.name]
        assert (method.client_streaming, method.server_streaming) == (other.client_streaming, other.server_streaming)
        assert method.input_type.full_name == other.input_type.full_name
        assert method.output_type.full_name == other.output_type.full_name


def _compare(ours: Descriptor, published: Descriptor) -> None:
    assert ours.full_name == published.full_name
    for field in ours.fields:
        other = published.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated)
    for nested in ours.nested_types:
        _compare(nested, published.nested_types_by_name[nested.name])
    for kind in (field.enum_type for field in ours.fields if field.enum_type is not None):
        numbers = {value.name: value.number for value in model_config_pb2.DataType.DESCRIPTOR.values}
        assert {value.name: value.number for value in kind.values}.items() <= numbers.items()
