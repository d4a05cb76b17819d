"""The Settings tree, read once from the environment."""

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from models.artifact import DEFAULT_ARTIFACT

PREFIX = "PROMPTIR_"
TOP = ""
# TensorRT's limit of 2**31 - 1 elements over the 512 channels of the widest tensor.
MAX_RUN_PIXELS = 4_194_303
CPU_RUN_PIXELS = 512 * 512
CPU_WHOLE_PIXELS = 1024 * 1024
GPU_RUN_PIXELS = GPU_WHOLE_PIXELS = 2_097_152


class SettingsError(ValueError):
    """A setting is unknown or has a bad value; the message names each one as the environment spells it."""


class _Group(BaseModel):
    """Constructors stay pure: only `Settings.from_environment` looks at the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class HttpSettings(_Group):
    """Where and how long the server answers."""

    host: str = Field(default="127.0.0.1", description="Loopback unless asked: the server has no authentication.")
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    drain_timeout_s: float = Field(
        default=30.0, ge=0, description="How long accepted work may go on after SIGTERM before it is failed."
    )


class LimitSettings(_Group):
    """What an upload may be, checked before anything is decoded."""

    max_upload_bytes: int = Field(
        default=64 * 2**20,
        gt=0,
        description="Bounds memory per connection; a JPEG of the largest image has half.",
    )
    max_uploads_bytes: int = Field(
        default=512 * 2**20,
        gt=0,
        description="Of all uploads being read or decoded; beyond it 429. Never less than one upload may have.",
    )
    upload_stall_s: float = Field(
        default=30.0,
        gt=0,
        description="In which each 64 KiB of an upload must come, beyond it 408: a phone in a tunnel may pause so.",
    )
    max_image_pixels: int = Field(
        default=50_000_000,
        gt=0,
        description="Width times height; a photo of 8 bits is held in 6 bytes a pixel, before and after.",
    )
    max_image_side: int = Field(
        default=16_384, gt=0, description="A very thin image grows up to eightfold when it is padded."
    )
    max_metadata_bytes: int = Field(
        default=4 * 2**20, gt=0, description="Of the colour profile, EXIF and XMP of an upload, each, and inflated."
    )
    max_run_pixels: int | None = Field(
        default=None,
        gt=0,
        le=MAX_RUN_PIXELS,
        description="Of all images of a run of several; unset 262144 on a CPU, where a megapixel takes 3 GB and "
        "batches are no faster, and 2097152 on a GPU. One image alone may have more.",
    )
    max_whole_pixels: int | None = Field(
        default=None,
        gt=0,
        le=MAX_RUN_PIXELS,
        description="An image of more is restored in tiles, which differ a little from one run (docs/tiling.md); unset "
        "1048576 on a CPU, about 3 GB, and 2097152 on a GPU.",
    )


class BatchingSettings(_Group):
    """How much may wait and how much runs together."""

    max_batch: int = Field(
        default=8, ge=1, description="Images of one run; more gain little once the device is busy, and cost memory."
    )
    max_backlog_ms: float = Field(
        default=30_000.0,
        gt=0,
        description="Predicted time until all that was admitted is done; beyond it 429, because nobody waits longer.",
    )
    max_queued_pixels: int = Field(
        default=67_108_864, ge=1, description="Bounds the memory of what waits: 12 bytes per pixel."
    )


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


Provider = Literal["tensorrt", "cuda", "cpu"]
Providers = Annotated[tuple[Provider, ...], BeforeValidator(_split), Field(min_length=1)]
Devices = Annotated[tuple[str, ...], BeforeValidator(_split)]

_CPU, _CUDA = r"cpu(:\d+)?", r"cuda:\d+"
# What the names of a backend's devices look like, and the same in words.
_DEVICE_NAMES = {
    "onnx": (f"{_CPU}|{_CUDA}", "cpu, cpu:N or cuda:N"),
    "pytorch": (f"{_CPU}|{_CUDA}", "cpu, cpu:N or cuda:N"),
    "tensorrt": (_CUDA, "cuda:N"),
    "simulated": (r"[\w.:-]+", "any names of letters, digits and :"),
}


class BackendSettings(_Group):
    """What runs the network."""

    backend: Literal["onnx", "tensorrt", "pytorch", "simulated"] = Field(
        default="onnx", description="`simulated` is an identity with a known duration, for load tests."
    )
    artifact: Path = Field(
        default=DEFAULT_ARTIFACT,
        description="Folder with manifest.json and the model; for `pytorch` a weights file does as well.",
    )
    devices: Devices = Field(
        default=(),
        description="Where to run, a worker each: cuda:0,cuda:1 or cpu; unset the CPU, or the first GPU where "
        "the backend or its providers need one.",
    )
    threads: int = Field(
        default=0, ge=0, description="Threads of one run on the CPU; 0 divides the cores among the CPU devices."
    )
    run_timeout_s: float = Field(
        default=300.0,
        gt=0,
        description="A run that takes longer, and ten times what was predicted, has hung: its device is lost. "
        "Raise it where a runtime compiles for new sizes during a run.",
    )
    onnx_providers: Providers = Field(
        default=("cpu",),
        description="Of `onnx`, best first, such as tensorrt,cuda,cpu; one that does not load stops the start.",
    )
    torch_precision: Literal["fp32", "fp16", "bf16"] = Field(
        default="fp32", description="Of `pytorch`; below fp32 the sums over a whole image stay in fp32."
    )
    torch_compile: bool = Field(default=False, description="Of `pytorch`: faster runs for a start that takes minutes.")
    device_cache_bytes: int = Field(
        default=8 * 2**30,
        ge=0,
        description="Device memory kept for shapes seen before (buffers, CUDA graphs); 0 records no graphs.",
    )
    cache_folder: Path | None = Field(
        default=None, description="Where runtimes keep what they compiled; unset, in the artifact folder."
    )
    fp32_check_every: int = Field(
        default=0, ge=0, description="One answer in so many is compared with FP32, which costs a slow run; 0 none."
    )
    fp32_gate_db: float = Field(
        default=50.0, description="PSNR under which a compared answer is replaced: less can show in 8 bits."
    )
    simulated_base_ms: float = Field(default=2.0, ge=0, description="Fixed milliseconds of a simulated run.")
    simulated_ms_per_megapixel: float = Field(
        default=20.0, ge=0, description="Milliseconds a simulated run takes for each megapixel of its batch."
    )
    simulated_run_log: Path | None = Field(
        default=None, description="A file for each simulated run as a CSV line: what the device did, told by itself."
    )

    @property
    def device_names(self) -> tuple[str, ...]:
        """The devices that were asked for, or the one that the backend takes by itself."""
        if self.devices:
            return self.devices
        alone = {"onnx": "cpu", "pytorch": "cpu", "tensorrt": "cuda:0", "simulated": "sim:0"}[self.backend]
        return ("cuda:0",) if self.backend == "onnx" and self.onnx_providers[0] != "cpu" else (alone,)

    @model_validator(mode="after")
    def _the_backend_can_use_the_devices(self) -> Self:
        pattern, words = _DEVICE_NAMES[self.backend]
        for device in self.devices:
            if not re.fullmatch(pattern, device):
                raise ValueError(f"{PREFIX}DEVICES={device}: the devices of {self.backend} are {words}")
            if self.devices.count(device) > 1:
                raise ValueError(f"{PREFIX}DEVICES={device}: a device is named once")
            if self.backend == "onnx" and device.startswith("cuda") and self.onnx_providers[0] == "cpu":
                raise ValueError(
                    f"{PREFIX}DEVICES={device}: onnx runs on it with a provider for it, "
                    f"such as {PREFIX}ONNX_PROVIDERS=cuda,cpu"
                )
        return self


class JobSettings(_Group):
    """Where long work is kept, how much of it and for how long."""

    jobs_folder: Path | None = Field(
        default=None,
        description="Takes uploads and results of /v1/jobs, and belongs to one server; unset, there are no jobs.",
    )
    jobs_max_bytes: int = Field(
        default=4 * 2**30,
        gt=0,
        description="Of all jobs on the disk; beyond it 429, for results go only in their time.",
    )
    jobs_keep_hours: float = Field(
        default=24.0, gt=0, description="A result is kept so long after its end, fetched or not, across restarts."
    )


class Settings(_Group):
    """Every knob of the server; passed down in parts."""

    http: HttpSettings = Field(default_factory=HttpSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    batching: BatchingSettings = Field(default_factory=BatchingSettings)
    backend: BackendSettings = Field(default_factory=BackendSettings)
    jobs: JobSettings = Field(default_factory=JobSettings)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="INFO writes one line per request."
    )

    def run_pixels(self, device: str) -> int:
        """Most pixels of a run of several images on a device."""
        return self.limits.max_run_pixels or (CPU_RUN_PIXELS if _is_cpu(device) else GPU_RUN_PIXELS)

    @property
    def whole_pixels(self) -> int:
        """Most pixels of an image that runs in one piece, on whichever device takes it."""
        on_cpu = any(_is_cpu(device) for device in self.backend.device_names)
        return self.limits.max_whole_pixels or (CPU_WHOLE_PIXELS if on_cpu else GPU_WHOLE_PIXELS)

    @classmethod
    def from_environment(cls, overrides: Mapping[str, object] | None = None) -> Self:
        """Read `PROMPTIR_<FIELD>` for every field of every group.

        `overrides` has flat field names (`{"port": 9000}`) and wins; None there, and an empty variable, count as not
        given. Raises SettingsError for a bad value and for an unknown name.
        """
        values: dict[str, object] = {
            name.removeprefix(PREFIX): value
            for name, value in os.environ.items()
            if name.startswith(PREFIX) and value != ""
        }
        values.update({name.upper(): value for name, value in (overrides or {}).items() if value is not None})
        known = environment_names()
        if unknown := sorted(values.keys() - known.keys()):
            raise SettingsError("; ".join(_unknown(name, known) for name in unknown))
        branches: defaultdict[str, dict[str, object]] = defaultdict(dict)
        for name, value in values.items():
            group, field = known[name]
            branches[group][field] = value
        top = branches.pop(TOP, {})
        try:
            return cls.model_validate({**branches, **top})
        except ValidationError as error:
            raise SettingsError("; ".join(map(_complaint, filter(_matters, error.errors())))) from None


def environment_names() -> dict[str, tuple[str, str]]:
    """Return each variable without its prefix, with the group and field it sets (group TOP: Settings itself)."""
    names: dict[str, tuple[str, str]] = {}
    for outer, info in Settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, _Group):
            names.update({field.upper(): (outer, field) for field in info.annotation.model_fields})
        else:
            names[outer.upper()] = (TOP, outer)
    return names


def _is_cpu(device: str) -> bool:
    return device.startswith("cpu")


def _unknown(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {PREFIX}{close[0]}?" if close else ""
    return f"{PREFIX}{name} is not a setting{hint}"


def _matters(entry: ErrorDetails) -> bool:
    return entry["type"] != "none_required"  # the other half of an optional setting


def _complaint(entry: ErrorDetails) -> str:
    if entry["type"] == "value_error":  # a validator over several fields names them itself
        return entry["msg"].removeprefix("Value error, ")
    field = next(str(part) for part in entry["loc"] if str(part).upper() in environment_names())
    return f"{PREFIX}{field.upper()}={entry['input']}: {entry['msg']}"
