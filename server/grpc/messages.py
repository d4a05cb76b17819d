"""Messages: the classes of the protocol's messages, from what `make protocol` compiled of the .proto files."""

from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError

from server.errors import InvalidRequest

INFERENCE, HEALTH = "inference", "grpc.health.v1"
INFERENCE_SERVICE, HEALTH_SERVICE = f"{INFERENCE}.GRPCInferenceService", f"{HEALTH}.Health"
COMPILED = "protocol.binpb"

# A pool of its own: a client of Triton's or KServe's in the same process has messages of the same names in the common
# one. And no generated code, which would have to fit the release of protobuf at hand.
_POOL = descriptor_pool.DescriptorPool()
for _file in FileDescriptorSet.FromString((files(__package__) / COMPILED).read_bytes()).file:
    _POOL.Add(_file)


def message(name: str, package: str = INFERENCE) -> Any:
    """The class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{package}.{name}"))


def parsed(kind: Any, data: bytes) -> Any:
    """The message of a class that the bytes are; raises InvalidRequest."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidRequest(f"The message is not a {kind.DESCRIPTOR.name}.") from None


ModelInferRequest = message("ModelInferRequest")
ModelInferResponse = message("ModelInferResponse")
ModelStreamInferResponse = message("ModelStreamInferResponse")
HealthCheckRequest = message("HealthCheckRequest", HEALTH)
HealthCheckResponse = message("HealthCheckResponse", HEALTH)
