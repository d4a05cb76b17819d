"""A group of settings, and how the environment spells one."""

from pydantic import BaseModel, ConfigDict

PREFIX = "PROMPTIR_"


class Group(BaseModel):
    """Constructors stay pure: only `Settings.from_environment` looks at the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")
