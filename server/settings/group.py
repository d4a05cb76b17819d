"""A group of settings, and how the environment spells one."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr

PREFIX = "PROMPTIR_"


class Group(BaseModel):
    """Constructors stay pure: only `Settings.from_environment` looks at the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def is_secret(annotation: Any) -> bool:
    """Whether a field of this type is a secret, or holds some: nobody prints those."""
    if annotation in (SecretStr, SecretBytes):
        return True
    return any(is_secret(part) for part in get_args(annotation))


def split(value: object) -> object:
    """A list as the environment spells it, with commas between; anything else as it is."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value
