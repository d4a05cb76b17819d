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
    """Split a comma-separated list, dropping empty members; a single path becomes a list of one."""
    if isinstance(value, Path):
        return [value]
    if not isinstance(value, str):
        return value
    return [part for part in map(str.strip, value.split(",")) if part]
