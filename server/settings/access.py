"""Settings of access control: API keys and browser origins."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from server.settings.group import PREFIX, Group, split

_ORIGIN = re.compile(r"\*|https?://[A-Za-z0-9.\-\[\]:]+")


class AccessSettings(Group):
    """Access control; without a keys file anyone who can reach the port may send work."""

    keys_file: Path | None = Field(
        default=None,
        description="File of hashed API keys, one per line (`promptir key new`), reloaded when it changes; unset, "
        "no key is required.",
    )
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(split)] = Field(
        default=(),
        description="Origins whose pages may call the API from a browser, such as https://photos.example, or *; unset, "
        "none.",
    )

    @model_validator(mode="after")
    def _origins_are_origins(self) -> Self:
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{PREFIX}CORS_ORIGINS={origin}: an origin is https://host or http://host:port, or *")
        return self
