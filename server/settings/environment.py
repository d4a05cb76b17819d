"""Reads `PROMPTIR_*` variables; no other module does."""

import difflib
import os
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from server.settings.group import PREFIX, Group, is_secret

TOP = ""
"""Group name of the settings that are in no group."""


Source = Literal["default", "environment", "flag"]


class SettingsError(ValueError):
    """Reports unknown settings and bad values; the message names each environment variable."""


def names_of(tree: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """Map each variable, without its prefix, to the group and field it sets (group TOP: the tree itself)."""
    names: dict[str, tuple[str, str]] = {}
    for outer, info in tree.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Group):
            names.update({field.upper(): (outer, field) for field in info.annotation.model_fields})
        else:
            names[outer.upper()] = (TOP, outer)
    return names


def given(overrides: Mapping[str, object]) -> dict[str, object]:
    """Return the values given by the environment and by `overrides`, by upper-case name.

    `overrides` has flat field names and takes precedence. None in it, and an empty variable, count as not given.
    """
    values: dict[str, object] = {
        name.removeprefix(PREFIX): value
        for name, value in os.environ.items()
        if name.startswith(PREFIX) and value != ""
    }
    values.update({name.upper(): value for name, value in overrides.items() if value is not None})
    return values


def sources(overrides: Mapping[str, object]) -> dict[str, Source]:
    """Return the source of each given value, by upper-case name."""
    flags = {name.upper() for name, value in overrides.items() if value is not None}
    return {name: "flag" if name in flags else "environment" for name in given(overrides)}


def branches(values: Mapping[str, object], known: Mapping[str, tuple[str, str]]) -> dict[str, object]:
    """Arrange the values as a tree for validation; raises SettingsError for unknown names."""
    if unknown := sorted(values.keys() - known.keys()):
        raise SettingsError("; ".join(_unknown(name, known) for name in unknown))
    groups: defaultdict[str, dict[str, object]] = defaultdict(dict)
    for name, value in values.items():
        group, field = known[name]
        groups[group][field] = value
    top = groups.pop(TOP, {})
    return {**groups, **top}


def refusal(error: ValidationError, tree: type[BaseModel]) -> SettingsError:
    """Convert a validation error to a SettingsError with one sentence per value; secrets are left out."""
    return SettingsError("; ".join(_complaint(entry, tree) for entry in error.errors() if _matters(entry)))


def _unknown(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {PREFIX}{close[0]}?" if close else ""
    return f"{PREFIX}{name} is not a setting{hint}"


def _matters(entry: ErrorDetails) -> bool:
    return entry["type"] != "none_required"  # the None branch of an optional setting


def _complaint(entry: ErrorDetails, tree: type[BaseModel]) -> str:
    known, reason = names_of(tree), entry["msg"].removeprefix("Value error, ")
    if entry["type"] == "value_error" and len(entry["loc"]) < 2:  # such a message names its settings
        return reason
    # A group may have the name of one of its settings, so the innermost name is used.
    name = next(str(part).upper() for part in entry["loc"][1::-1] if str(part).upper() in known)
    given = "" if is_secret(_annotation(tree, *known[name])) else entry["input"]
    return f"{PREFIX}{name}={given}: {reason}"


def _annotation(tree: type[BaseModel], group: str, field: str) -> Any:
    holder: Any = tree.model_fields[group].annotation if group else tree
    return holder.model_fields[field].annotation
