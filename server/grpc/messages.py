"""Messages: the message classes of the protocol, from the .proto files that `make protocol` compiles."""

from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError

from server.errors import InvalidRequest

INFERENCE, HEALTH = "inference", "grpc.health.v1"
INFERENCE_SERVICE, HEALTH_SERVICE = f"{INFERENCE}.GRPCInferenceService", f"{HEALTH}.Health"
COMPILED = "protocol.binpb"

# A separate pool: a client of Triton or KServe in the same process has messages of the same names in the default pool.
# No generated code, which would have to match the installed release of protobuf.
_POOL = descriptor_pool.DescriptorPool()
for _file in FileDescriptorSet.FromString((files(__package__) / COMPILED).read_bytes()).file:
    _POOL.Add(_file)


def message(name: str, package: str = INFERENCE) -> Any:
    """Return the class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{package}.{name}"))


def parsed(kind: Any, data: bytes) -> Any:
    """Parse a message; raises InvalidRequest."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise InvalidRequest(f"The message is not a {kind.DESCRIPTOR.name}.") from None


ModelInferRequest = message("ModelInferRequest")
ModelInferResponse = message("ModelInferResponse")
ModelStreamInferResponse = message("ModelStreamInferResponse")
HealthCheckRequest = message("HealthCheckRequest", HEALTH)
HealthCheckResponse = message("HealthCheckResponse", HEALTH)
