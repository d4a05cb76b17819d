"""Settings tree, read once from the environment."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from server.settings import environment
from server.settings.access import AccessSettings
from server.settings.backend import BackendSettings
from server.settings.batching import BatchingSettings
from server.settings.group import PREFIX, Group
from server.settings.http import HttpSettings
from server.settings.jobs import JobSettings
from server.settings.limits import LimitSettings

CPU_RUN_PIXELS = 512 * 512
CPU_WHOLE_PIXELS = 1024 * 1024
FEW_CORES = 4
AUTO: Literal["auto"] = "auto"
CodecProcessCount = Literal["auto"] | Annotated[int, Field(ge=0, le=64)]
GPU_RUN_PIXELS = GPU_WHOLE_PIXELS = 2_097_152


class Settings(Group):
    """All settings of the server; components receive only their part."""

    http: HttpSettings = Field(default_factory=HttpSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    batching: BatchingSettings = Field(default_factory=BatchingSettings)
    backend: BackendSettings = Field(default_factory=BackendSettings)
    jobs: JobSettings = Field(default_factory=JobSettings)
    access: AccessSettings = Field(default_factory=AccessSettings)
    codec_processes: CodecProcessCount = Field(
        default=0,
        description="Processes that decode and encode images of one run; 0 uses threads, and `auto` half of the cores "
        "where a CUDA device and more than four cores are there (docs/tune.md).",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="INFO writes one line per request."
    )
    tracing: bool = Field(
        default=False,
        description="Records each request as OpenTelemetry spans, configured by the standard `OTEL_*` variables; needs "
        "the extra `tracing`.",
    )

    @model_validator(mode="after")
    def _jobs_are_in_one_process(self) -> Self:
        if self.http.http_processes > 1 and self.jobs.jobs_folder is not None:
            raise ValueError(
                f"{PREFIX}HTTP_PROCESSES={self.http.http_processes}: with {PREFIX}JOBS_FOLDER there is one HTTP "
                "process, because one process runs the jobs of a folder"
            )
        return self

    def run_pixels(self, device: str) -> int:
        """Return the most pixels per batch of several images on a device."""
        return self.limits.max_run_pixels or (CPU_RUN_PIXELS if _is_cpu(device) else GPU_RUN_PIXELS)

    @property
    def whole_pixels(self) -> int:
        """Most pixels of an image that is restored in one piece, on any of the devices."""
        on_cpu = any(_is_cpu(device) for device in self.backend.device_names)
        return self.limits.max_whole_pixels or (CPU_WHOLE_PIXELS if on_cpu else GPU_WHOLE_PIXELS)

    def codec_process_count(self, cores: int) -> int:
        """Return the number of codec processes on a machine with this many cores."""
        if self.codec_processes != AUTO:
            return self.codec_processes
        on_cuda = any(device.startswith("cuda") for device in self.backend.device_names)
        return cores // 2 if on_cuda and cores > FEW_CORES else 0

    def in_effect(self) -> dict[str, object]:
        """Return the effective values of settings whose defaults depend on others, by upper-case name."""
        names = self.backend.device_names
        return {
            "DEVICES": list(names),
            "MAX_RUN_PIXELS": self.limits.max_run_pixels or {name: self.run_pixels(name) for name in names},
            "MAX_WHOLE_PIXELS": self.whole_pixels,
        }

    @classmethod
    def from_environment(cls, overrides: Mapping[str, object] | None = None) -> Self:
        """Read `PROMPTIR_<FIELD>` for every field of every group.

        `overrides` has flat field names (`{"port": 9000}`) and takes precedence; None in it, and an empty variable,
        count as not given. Raises SettingsError for a bad value or an unknown name.
        """
        known = environment_names()
        values = environment.branches(environment.given(overrides or {}), known)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise environment.refusal(error, cls) from None


def environment_names() -> dict[str, tuple[str, str]]:
    """Map each variable, without its prefix, to the group and field it sets (group TOP: Settings itself)."""
    return environment.names_of(Settings)


def _is_cpu(device: str) -> bool:
    return device.startswith("cpu")
