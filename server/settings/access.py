"""Access settings: who may come, and from where."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from server.settings.group import PREFIX, Group, split

_ORIGIN = re.compile(r"\*|https?://[A-Za-z0-9.\-\[\]:]+")


class AccessSettings(Group):
    """Who may send work; without a keys file everybody who reaches the port."""

    keys_file: Path | None = Field(
        default=None,
        description="API keys by their hashes, a line each (`promptir key new`), read again when it changes; unset, "
        "nobody is asked for one.",
    )
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(split)] = Field(
        default=(),
        description="Origins whose pages may call from a browser, such as https://photos.example, or *; unset none.",
    )

    @model_validator(mode="after")
    def _origins_are_origins(self) -> Self:
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{PREFIX}CORS_ORIGINS={origin}: an origin is https://host or http://host:port, or *")
        return self
