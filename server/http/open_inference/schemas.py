"""Schemas: the JSON documents of the protocol."""

from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from server.open_inference.models import INPUT, MAX_IMAGES, MODELS, OUTPUT, VERSION, Datatype

Parameters = dict[str, Any]
MAX_LISTED = 16
"""Inputs, outputs and dimensions: more than any that can be answered, few enough to be told of in a sentence."""
# The documents name what there is; what there is not is refused by the models, in a sentence.
ModelName = Annotated[str, Path(json_schema_extra={"enum": list(MODELS)})]
ModelVersion = Annotated[str, Path(json_schema_extra={"enum": [VERSION]})]
# The first fault ends the reading of a list: a million of them would be written down before any is told.
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
    """What is wanted of the output; `binary_data` in its parameters says how."""

    name: str = Field(json_schema_extra={"const": OUTPUT})
    parameters: Parameters = {}


class InferRequest(BaseModel):
    """The JSON of a request, which binary data may follow."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str = ""
    parameters: Parameters = {}
    inputs: Annotated[list[RequestInput], _FIRST_FAULT] = Field(json_schema_extra={"minItems": 1, "maxItems": 1})
    outputs: Annotated[list[RequestOutput], _FIRST_FAULT] = Field(default=[], json_schema_extra={"maxItems": 1})


class ResponseOutput(BaseModel):
    """The restored images, as the input came."""

    name: str
    datatype: str
    shape: list[int]
    parameters: Parameters | None = None
    data: list[float] | list[str] | None = None


class InferResponse(BaseModel):
    """The JSON of an answer; `parameters` say whether photos were restored in tiles."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: Parameters
    outputs: list[ResponseOutput]


class TensorMetadata(BaseModel):
    """A tensor; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(BaseModel):
    """The server and what it offers beyond the protocol's core."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """The process answers."""

    live: bool = True


class ServerReady(BaseModel):
    """Whether restorations are taken."""

    ready: bool


class ModelReady(BaseModel):
    """The same, by the name of a model."""

    name: str
    ready: bool


class ModelIndex(BaseModel):
    """A model in the index of the repository."""

    name: str
    version: str
    state: str
    reason: str = ""


class ProtocolError(BaseModel):
    """What is wrong, in a sentence."""

    error: str
