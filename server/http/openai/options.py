"""Options of an edit: the fields of OpenAI's form that mean something here."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from server.errors import InvalidRequest
from server.formats.output import OutputFormat
from server.restore.options import DEFAULT_QUALITY, RestoreOptions

MOST_COPIES = 10
FIELDS = ("output_format", "response_format", "stream", "output_compression", "n", "strength", "model")
"""The fields that are read, each given once."""


@dataclass(frozen=True, slots=True)
class EditOptions:
    """How each image is restored, and how often each result is returned."""

    restore: RestoreOptions
    output: OutputFormat
    copies: int = 1


def read_edit_options(
    fields: Mapping[str, str], models: Collection[str], repeated: Collection[str] = ()
) -> EditOptions:
    """Check the fields of a form; those that guide a generator, such as `prompt` and `size`, are ignored.

    A `model` that is not one of the server's `models`, such as OpenAI's, stands for the default. `repeated` names the
    fields that the form has more than once.

    Raises InvalidRequest with the `param` that is wrong.
    """
    if (twice := next((name for name in FIELDS if name in repeated), None)) is not None:
        raise _invalid(twice, "is given more than once")
    names = [output.value for output in OutputFormat]
    name = fields.get("output_format") or OutputFormat.PNG.value
    if name not in names:
        raise _invalid("output_format", f"must be one of {', '.join(names)}")
    if fields.get("response_format", "b64_json") not in ("b64_json", ""):
        raise _invalid("response_format", "must be b64_json: images are returned, not stored under a URL")
    if fields.get("stream", "false").lower() not in ("false", "0", ""):
        raise _invalid("stream", "must be false: there are no partial images")
    quality = _number(fields, "output_compression", 0, 100, DEFAULT_QUALITY)
    copies = _number(fields, "n", 1, MOST_COPIES, 1)
    strength = _number(fields, "strength", 0, 1, 1.0)
    output, model = OutputFormat(name), fields.get("model")
    restore = RestoreOptions(output, max(1, int(quality)), strength=strength, model=model if model in models else None)
    return EditOptions(restore, output, int(copies))


def _number(fields: Mapping[str, str], name: str, least: int, most: int, default: float) -> float:
    text = fields.get(name, "")
    if not text:
        return default
    try:
        number = float(text) if isinstance(default, float) else int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise _invalid(name, f"must be a number from {least} to {most}")
    return number


def _invalid(param: str, rule: str) -> InvalidRequest:
    return InvalidRequest(f"The field {param} {rule}.", param=param)
