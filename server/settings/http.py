"""HTTP settings: where and how long the server answers."""

import re

from pydantic import Field, field_validator

from server.settings.group import Group

_SEGMENTS = re.compile(r"(/[A-Za-z0-9._~-]+)*")
# What the server has there itself: a request for it could not be told from one below the root path.
_TAKEN = ("restore", "v1", "v2", "web", "docs", "redoc", "openapi.json", "healthz", "readyz", "metrics", "favicon.ico")


class HttpSettings(Group):
    """Where and how long the server answers."""

    host: str = Field(
        default="127.0.0.1", description="Loopback unless asked: without `keys_file` anyone may send work."
    )
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    grpc_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="TCP port of gRPC, with the extra `grpc`; unset, there is none.",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Serves /metrics there, and no longer on the port for work; 0 takes a free one.",
    )
    root_path: str | None = Field(
        default=None,
        description="Path below which a proxy offers the server, such as /photos; whether or not the proxy takes it "
        "off, it stands in links, in Location and in the OpenAPI document.",
    )
    drain_timeout_s: float = Field(
        default=30.0, ge=0, description="How long accepted work may go on after SIGTERM before it is failed."
    )

    @field_validator("root_path")
    @classmethod
    def _is_a_path(cls, value: str | None) -> str | None:
        value = (value or "").rstrip("/")
        if not _SEGMENTS.fullmatch(value) or "/." in value:
            raise ValueError("a path begins with a slash and has letters, digits and . _ ~ - between slashes")
        if value and value.split("/")[1] in _TAKEN:
            raise ValueError(f"begins with a path of the server itself; these are {', '.join(_TAKEN)}")
        return value or None
