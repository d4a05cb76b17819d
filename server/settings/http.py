"""HTTP settings: where and how long the server answers."""

from pydantic import Field

from server.settings.group import Group


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
    drain_timeout_s: float = Field(
        default=30.0, ge=0, description="How long accepted work may go on after SIGTERM before it is failed."
    )
