"""The settings that every backend reads, and how a list in a setting is written."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from models.artifact import DEFAULT_ARTIFACT


class RuntimeSettings(BaseModel):
    """Base of the settings of each backend; a backend with settings of its own adds them in a subclass.

    The server reads the fields of all backends as one group, so the name of a backend's own field begins with the
    backend's name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: str = Field(
        default="onnx", description="The runtime; `simulated` returns its input after a known time, for load tests."
    )
    artifact: Path = DEFAULT_ARTIFACT
    devices: tuple[str, ...] = Field(
        default=(),
        description="Devices to run on, with one worker each, such as cuda:0,cuda:1 or cpu; unset, the CPU, or the "
        "first GPU if the backend or its providers need one.",
    )
    threads: int = Field(
        default=0, ge=0, description="Threads of one run on the CPU; 0 divides the cores among the CPU devices."
    )
    device_cache_bytes: int = Field(
        default=8 * 2**30,
        ge=0,
        description="Device memory for buffers and CUDA graphs of shapes seen before; 0 records no graphs.",
    )
    cache_folder: Path | None = Field(
        default=None, description="Where runtimes keep compiled engines and kernels; unset, in the artifact folder."
    )


def split(value: Any) -> Any:
    """Split a comma-separated list, dropping empty members; a single path becomes a list of one."""
    if isinstance(value, Path):
        return [value]
    if not isinstance(value, str):
        return value
    return [part for part in map(str.strip, value.split(",")) if part]
