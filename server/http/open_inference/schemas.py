"""Schemas: the JSON documents of the protocol, errors included."""

from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Scope

from server.open_inference.models import DEFAULT, INPUT, MAX_IMAGES, OUTPUT, VERSION, Datatype

ROOT = "/v2"
Parameters = dict[str, Any]
MAX_LISTED = 16
"""Inputs, outputs and dimensions: more than a valid request has, few enough to be named in an error."""
ModelName = Annotated[str, Path(description="One of the names in `/v2/repository/index`.", examples=[DEFAULT])]
ModelVersion = Annotated[str, Path(json_schema_extra={"enum": [VERSION]})]
# The first fault ends the validation of a list: a million faults would be collected before one is reported.
_FIRST_FAULT: Any = Field(fail_fast=True, max_length=MAX_LISTED)
Dim = Annotated[int, Field(strict=True, ge=0, lt=2**63)]

_EXAMPLE: Any = {
    "inputs": [{"name": INPUT, "shape": [1, 3, 1, 1], "datatype": "UINT8", "data": [255, 128, 0]}],
    "outputs": [{"name": OUTPUT, "parameters": {"binary_data": False}}],
}


class RequestInput(BaseModel):
    """The one input of a request."""

    name: str = Field(json_schema_extra={"const": INPUT})
    shape: Annotated[list[Dim], _FIRST_FAULT] = Field(
        description=f"`[N, 3, H, W]`, or `[N]` for files; at most {MAX_IMAGES}.", min_length=1
    )
    datatype: str = Field(
        description="FP32 in 0..1, UINT8, or BYTES that are image files.", json_schema_extra={"enum": list(Datatype)}
    )
    parameters: Parameters = {}
    data: Any = Field(default=None, description="Numbers, flat or nested; files as base64. Left out if binary.")


class RequestOutput(BaseModel):
    """A requested output; its parameter `binary_data` chooses the form."""

    name: str = Field(json_schema_extra={"const": OUTPUT})
    parameters: Parameters = {}


class InferRequest(BaseModel):
    """The JSON of a request; binary data may follow it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str = ""
    parameters: Parameters = {}
    inputs: Annotated[list[RequestInput], _FIRST_FAULT] = Field(json_schema_extra={"minItems": 1, "maxItems": 1})
    outputs: Annotated[list[RequestOutput], _FIRST_FAULT] = Field(default=[], json_schema_extra={"maxItems": 1})


class ResponseOutput(BaseModel):
    """The restored images, in the datatype of the input."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters | None = None
    data: list[float] | list[str] | None = None


class InferResponse(BaseModel):
    """The JSON of an answer; `parameters` tell whether photos were restored in tiles."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: Parameters
    outputs: list[ResponseOutput]


class TensorMetadata(BaseModel):
    """A tensor; -1 stands for any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """The tensors of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(BaseModel):
    """The server and the protocol extensions it has."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """The process answers."""

    live: bool = True


class ServerReady(BaseModel):
    """Whether the server takes restorations."""

    ready: bool


class ModelReady(BaseModel):
    """Whether a model takes restorations."""

    name: str
    ready: bool


class ModelIndex(BaseModel):
    """A model in the index of the repository."""

    name: str
    version: str
    state: str
    reason: str = ""


class ProtocolError(BaseModel):
    """An error of the protocol: a sentence instead of a problem document."""

    error: str


def is_open_inference(scope: Scope) -> bool:
    """Whether a request is one of the protocol, and its errors have the form of the protocol."""
    path: str = scope["path"]
    return path == ROOT or path.startswith(f"{ROOT}/")
