"""Base class of a group of settings, and parsing of environment values."""

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr

PREFIX = "PROMPTIR_"


class Group(BaseModel):
    """Base class of setting groups; constructors do not read the environment, only `Settings.from_environment` does."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def is_secret(annotation: Any) -> bool:
    """Return whether a field of this type is or contains a secret, which must not be printed."""
    if annotation in (SecretStr, SecretBytes):
        return True
    return any(is_secret(part) for part in get_args(annotation))


def split(value: object) -> object:
    """Split a comma-separated list; any other value is returned unchanged, and a single path as a list."""
    if isinstance(value, Path):
        return [value]
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value
