"""Options: the query parameters and headers of a restoration."""

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, ValidationError
from pydantic.json_schema import SkipJsonSchema
from pydantic_core.core_schema import literal_schema

from server.errors import InvalidRequest, NotAcceptable
from server.formats.output import OutputFormat
from server.http.restore.accept import Accept
from server.restore.options import RestoreFields, RestoreOptions
from server.scheduling.queue.tile import Priority

JSON = "application/json"
_FORMAT_NAMES = literal_schema([*(output.value for output in OutputFormat), "same"])
FormatName = Annotated[str, GetPydanticSchema(lambda _source, _handler: _FORMAT_NAMES)]
"""The name of a format that is written, or `same`."""
_MEDIA_TYPES = {output.media_type: output for output in OutputFormat}

Model = TypeVar("Model", bound=BaseModel)


class RestoreQuery(RestoreFields):
    """The query parameters of a restoration."""

    format: FormatName | SkipJsonSchema[None] = Field(
        default=None,
        description="The file format of the answer; `same` is that of the upload. By default the Accept header "
        "decides, and without a preference it is PNG.",
    )
    report: bool = Field(
        default=False,
        description="Answer with multipart/mixed: a JSON report, then the image. If Accept names application/json, "
        "answer with JSON that has the image in base64.",
    )
    model: Annotated[str, Field(min_length=1)] | SkipJsonSchema[None] = Field(
        default=None,
        description="The model that restores the image, one of `models` in `GET /`; by default the first of them.",
    )


class RestoreHeaders(BaseModel):
    """The headers of a restoration: deadline, priority, and the form of the answer."""

    model_config = ConfigDict(populate_by_name=True)

    deadline_ms: Annotated[int, Field(ge=1)] | SkipJsonSchema[None] = Field(  # not given, rather than the word null
        default=None,
        alias="X-Deadline-Ms",
        description="Milliseconds in which the answer is useful: the request is refused at once if they cannot be "
        "met, and given up if they pass in the queue.",
    )
    priority: Literal["interactive", "batch"] = Field(
        default="interactive",
        alias="X-Priority",
        description="`batch` waits behind `interactive`, as do the tiles of a large photo.",
    )
    accept: str | SkipJsonSchema[None] = Field(
        default=None, alias="Accept", description="Chooses the file format if `format` does not."
    )
    if_none_match: str | SkipJsonSchema[None] = Field(
        default=None,
        alias="If-None-Match",
        description="Entity tags of answers that the client has: 304 if the answer would be one of them.",
    )


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """All options of a request, checked; `patience_s` is the deadline in seconds from the arrival."""

    restore: RestoreOptions = field(default_factory=RestoreOptions)
    patience_s: float | None = None
    priority: Priority = Priority.INTERACTIVE
    if_none_match: str | None = None
    as_json: bool = False
    """Whether the report is wanted as JSON with the image in it."""


_IF_NONE_MATCH = b"if-none-match"
_ALIASES = {field.alias.lower().encode(): field.alias for field in RestoreHeaders.model_fields.values() if field.alias}
_HEADERS = {name: alias for name, alias in _ALIASES.items() if name != _IF_NONE_MATCH}
# How many unknown parameters an error names, and how much of each name.
_MOST_UNKNOWN, _LONGEST_NAME = 5, 40
# Clients send few combinations of options, and checking one takes as long as decoding a small image.
_MOST_KEPT, _LONGEST_KEPT = 256, 512
_PRIORITIES = {"interactive": Priority.INTERACTIVE, "batch": Priority.BATCH}


def read_options(query: bytes, headers: Mapping[bytes, bytes]) -> RequestOptions:
    """Check a request's raw query and lower-case headers.

    Raises InvalidRequest that names every fault, NotAcceptable where Accept wants nothing that is written.
    """
    given = tuple(map(headers.get, _HEADERS))
    length = len(query) + sum(map(len, filter(None, given)))
    options = _read_kept(query, given) if length <= _LONGEST_KEPT else _read(query, given)
    if (tags := headers.get(_IF_NONE_MATCH)) is not None:  # of one image, so not kept
        options = replace(options, if_none_match=tags.decode("latin-1"))
    return options


def _read(query: bytes, headers: tuple[bytes | None, ...]) -> RequestOptions:
    values = zip(_HEADERS.values(), headers, strict=True)
    given = {alias: value.decode("latin-1") for alias, value in values if value is not None}
    faults: list[dict[str, str]] = []
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    asked_for = dict(pairs)
    unknown = [name for name in asked_for if name not in RestoreQuery.model_fields]
    faults += [_unknown(name) for name in unknown[:_MOST_UNKNOWN]]
    faults += [repeated(name) for name in repeats(name for name, _ in pairs) if name in RestoreQuery.model_fields]
    parameters = _checked(RestoreQuery, asked_for, "query", faults)
    asked = _checked(RestoreHeaders, given, "header", faults)
    if parameters is None or asked is None or faults:
        raise invalid_parameters(faults)
    accept = Accept(asked.accept)
    return RequestOptions(
        parameters.with_output(_output(parameters, accept), report=parameters.report, model=parameters.model),
        None if asked.deadline_ms is None else asked.deadline_ms / 1e3,
        _PRIORITIES[asked.priority],
        as_json=parameters.report and accept.names(JSON) and accept.weight(JSON) >= accept.weight("multipart/mixed"),
    )


_read_kept = lru_cache(_MOST_KEPT)(_read)


def check_form_fields(names: Iterable[str], options: Collection[str] = RestoreQuery.model_fields) -> None:
    """Raise InvalidRequest if a field of a form has the name of an option, which would have no effect there."""
    if misplaced := [name for name in names if name in options]:
        raise InvalidRequest(
            f"The form has a field `{misplaced[0]}`: options go into the query, as in ?{misplaced[0]}=VALUE.",
            misplaced_fields=misplaced,
        )


def _unknown(name: str) -> dict[str, str]:
    # As settings are: an option that is dropped without a word is found out by its missing effect, or not at all.
    close = difflib.get_close_matches(name[:_LONGEST_NAME].lower(), RestoreQuery.model_fields, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(RestoreQuery.model_fields)}"
    return {"in": "query", "name": name[:_LONGEST_NAME], "message": f"is not an option; {hint}"}


def repeats(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def repeated(name: str) -> dict[str, str]:
    """Describe the fault of a query parameter that is given more than once."""
    return {"in": "query", "name": name, "message": "is given more than once"}


def invalid_parameters(faults: list[dict[str, str]]) -> InvalidRequest:
    """Return the error that lists bad parameters: where each is (`in`), its `name` and a `message`."""
    detail = "; ".join(f"{fault['in']} parameter {fault['name']}: {fault['message']}" for fault in faults)
    return InvalidRequest(detail, errors=faults)


def _output(parameters: RestoreQuery, accept: Accept) -> OutputFormat | None:
    if parameters.format == "same":
        return None
    if parameters.format is not None:
        return OutputFormat(parameters.format)
    best = accept.best(_MEDIA_TYPES)
    if best is not None:
        return _MEDIA_TYPES[best]
    if parameters.report and (accept.weight(JSON) or accept.weight("multipart/mixed")):
        return OutputFormat.PNG
    raise NotAcceptable(
        f"The Accept header allows none of the types that the server writes: {', '.join(_MEDIA_TYPES)}.",
        acceptable_media_types=list(_MEDIA_TYPES),
    )


def _checked(kind: type[Model], given: Any, where: str, faults: list[dict[str, str]]) -> Model | None:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        faults += [
            {"in": where, "name": str(fault["loc"][0]), "message": fault["msg"]}
            for fault in error.errors()
            if fault["type"] != "none_required"  # the None half of an optional parameter
        ]
        return None
