"""Options: what a client may ask of a restoration besides the image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.batching.job import Priority
from server.errors import InvalidRequest
from server.imaging.codec import OutputFormat

DEFAULT_QUALITY = 90

Model = TypeVar("Model", bound=BaseModel)


class RestoreQuery(BaseModel):
    """The query parameters of `POST /restore`; further ones are ignored."""

    format: OutputFormat = Field(default=OutputFormat.PNG, description="The kind of file of the answer.")
    quality: int = Field(default=DEFAULT_QUALITY, ge=1, le=100, description="Of JPEG and WebP; PNG is lossless.")


class RestoreHeaders(BaseModel):
    """The headers of `POST /restore` that say how urgent it is."""

    model_config = ConfigDict(populate_by_name=True)

    deadline_ms: int | None = Field(
        default=None,
        alias="X-Deadline-Ms",
        ge=1,
        description="Milliseconds from now within which the answer is worth having: refused at once where they "
        "cannot be kept, given up where they pass in the queue.",
    )
    priority: Literal["interactive", "batch"] = Field(
        default="interactive", alias="X-Priority", description="`batch` waits behind `interactive`."
    )


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """Both, checked; `patience_s` is the deadline in seconds from the request's arrival."""

    output: OutputFormat = OutputFormat.PNG
    quality: int = DEFAULT_QUALITY
    patience_s: float | None = None
    priority: Priority = Priority.INTERACTIVE


_DEFAULTS = RestoreOptions()
_HEADERS = {field.alias.lower().encode(): field.alias for field in RestoreHeaders.model_fields.values() if field.alias}
_PRIORITIES = {"interactive": Priority.INTERACTIVE, "batch": Priority.BATCH}


def read_options(query: bytes, headers: Mapping[bytes, bytes]) -> RestoreOptions:
    """Check a request's raw query and lower-case headers; raises InvalidRequest that names every fault."""
    given = {_HEADERS[name]: headers[name].decode("latin-1") for name in _HEADERS if name in headers}
    if not query and not given:  # nearly always
        return _DEFAULTS
    faults: list[dict[str, str]] = []
    parameters = _checked(
        RestoreQuery, dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)), "query", faults
    )
    urgency = _checked(RestoreHeaders, given, "header", faults)
    if parameters is None or urgency is None:
        raise invalid_parameters(faults)
    patience_s = None if urgency.deadline_ms is None else urgency.deadline_ms / 1e3
    return RestoreOptions(parameters.format, parameters.quality, patience_s, _PRIORITIES[urgency.priority])


def invalid_parameters(faults: list[dict[str, str]]) -> InvalidRequest:
    """The error that names bad parameters, each with where it is (`in`), its `name` and a `message`."""
    detail = "; ".join(f"{fault['in']} parameter {fault['name']}: {fault['message']}" for fault in faults)
    return InvalidRequest(detail, errors=faults)


def _checked(kind: type[Model], given: Any, where: str, faults: list[dict[str, str]]) -> Model | None:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        faults += [
            {"in": where, "name": ".".join(map(str, fault["loc"])), "message": fault["msg"]} for fault in error.errors()
        ]
        return None
