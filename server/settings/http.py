"""Settings of the network: addresses, ports and shutdown."""

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from server.settings.group import PREFIX, Group

_SEGMENTS = re.compile(r"(/[A-Za-z0-9._~-]+)*")
# The server's own first path segments, which a root path must not hide.
_TAKEN = ("restore", "v1", "v2", "web", "docs", "redoc", "openapi.json", "healthz", "readyz", "metrics", "favicon.ico")


class HttpSettings(Group):
    """Addresses, ports and shutdown of the server."""

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on; by default loopback, because anyone may send work without `keys_file`.",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port; 0 selects a free one.")
    grpc_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="TCP port of gRPC (needs the extra `grpc`); unset, gRPC is off.",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Serves /metrics on this port instead of the main one; 0 selects a free one.",
    )
    http_processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that serve HTTP on the port, before one that runs the devices: for a GPU that waits for "
        "Python (docs/tune.md). Limits and quotas hold in each of them.",
    )
    root_path: str | None = Field(
        default=None,
        description="Path prefix under which a proxy publishes the server, such as /photos. It appears in links, in "
        "Location and in the OpenAPI document, whether or not the proxy strips it.",
    )
    drain_timeout_s: float = Field(
        default=30.0, ge=0, description="Time for accepted work to finish after SIGTERM; what is left then fails."
    )

    @model_validator(mode="after")
    def _processes_share_one_grpc_port(self) -> Self:
        if self.http_processes > 1 and self.grpc_port == 0:
            raise ValueError(f"{PREFIX}GRPC_PORT=0: several HTTP processes share one port, which has to be named")
        return self

    @field_validator("root_path")
    @classmethod
    def _is_a_path(cls, value: str | None) -> str | None:
        value = (value or "").rstrip("/")
        if not _SEGMENTS.fullmatch(value) or "/." in value:
            raise ValueError("a path begins with a slash, followed by segments of letters, digits and . _ ~ -")
        if value and value.split("/")[1] in _TAKEN:
            raise ValueError(f"begins with one of the server's own paths, which are {', '.join(_TAKEN)}")
        return value or None
