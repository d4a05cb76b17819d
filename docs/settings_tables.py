"""Generate the tables of docs/settings.md from Settings. `make monitoring` runs it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from server.settings import PREFIX, Settings, environment_names, is_secret

PROJECT = Path(__file__).resolve().parents[1]
SETTINGS = PROJECT / "docs/settings.md"
BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"
TITLES = {"": "Others", "http": "HTTP"}
KINDS = {"integer": "whole number", "number": "number", "string": "text"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def setting_rows() -> Iterator[str]:
    """Yield a section with a table for each group of settings, using their own descriptions."""
    schema, names = Settings.model_json_schema(), environment_names()
    for group in dict.fromkeys(group for group, _ in names.values()):
        holder: Any = Settings.model_fields[group].annotation if group else Settings
        told = (holder.__doc__ or "").strip().splitlines()[0] if group else "Settings without a group."
        yield f"\n### {TITLES.get(group, group.capitalize())}\n\n{told}\n"
        yield "| variable | default | allowed | |\n|---|---|---|---|"
        fields = schema["$defs"][holder.__name__]["properties"] if group else schema["properties"]
        for name, (owner, field) in names.items():
            if owner == group:
                info = holder.model_fields[field]
                cells = [f"`{PREFIX}{name}`", default(info), allowed(fields[field]), info.description or ""]
                yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def default(info: FieldInfo) -> str:
    """Return the default as the environment would spell it."""
    value = info.default
    if is_secret(info.annotation) or value is None or value == ():
        return "unset"
    parts = [_part(part) for part in value] if isinstance(value, tuple) else [_part(value)]
    return f"`{','.join(parts)}`"


def _part(value: object) -> str:
    if isinstance(value, Path) and value.is_relative_to(PROJECT):
        value = value.relative_to(PROJECT)
    return str(value).lower() if isinstance(value, bool) else str(value)


def allowed(schema: dict[str, Any]) -> str:
    """Return the values that a setting accepts, from its JSON schema."""
    kinds = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    if len(kinds) > 1:
        return " or ".join(map(allowed, kinds))
    taken = kinds[0] if kinds else schema
    if "const" in taken:
        return f"`{taken['const']}`"
    if taken.get("type") == "array":
        names = [f"`{name}`" for name in taken["items"].get("enum", [])]
        kind = "paths" if taken["items"].get("format") == "path" else "list"
        return f"comma-separated {kind}" + (f" of {', '.join(names)}" if names else "")
    if "enum" in taken:
        return ", ".join(f"`{value}`" for value in taken["enum"])
    if taken.get("type") == "boolean":
        return "`true`, `false`"
    kind = "path" if taken.get("format") == "path" else KINDS[taken["type"]]
    bounds = ", ".join(f"{sign} {_number(taken[key])}" for key, sign in BOUNDS.items() if key in taken)
    return f"{kind} {bounds}".strip()


def _number(bound: float) -> str:
    return str(int(bound) if float(bound).is_integer() else bound)


def settings(text: str) -> str:
    """Return the text of the settings page with its tables replaced by the current ones."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return "\n".join([before + BEGIN, *setting_rows(), "", END + after])


if __name__ == "__main__":
    SETTINGS.write_text(settings(SETTINGS.read_text()))
