"""Base class of a group of settings, and what its fields need."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr

from server.backends.settings import split as split

PREFIX = "PROMPTIR_"


class Group(BaseModel):
    """Base class of setting groups; constructors do not read the environment, only `Settings.from_environment` does."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def is_secret(annotation: Any) -> bool:
    """Return whether a field of this type is or contains a secret, which must not be printed."""
    if annotation in (SecretStr, SecretBytes):
        return True
    return any(is_secret(part) for part in get_args(annotation))
