"""Backend settings: what runs the network, and on which devices."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from models.artifact import DEFAULT_ARTIFACT
from server.settings.group import PREFIX, Group, split

Provider = Literal["tensorrt", "cuda", "cpu"]
Providers = Annotated[tuple[Provider, ...], BeforeValidator(split), Field(min_length=1)]
Devices = Annotated[tuple[str, ...], BeforeValidator(split)]

_CPU, _CUDA = r"cpu(:\d+)?", r"cuda:\d+"
# What the names of a backend's devices look like, and the same in words.
_DEVICE_NAMES = {
    "onnx": (f"{_CPU}|{_CUDA}", "cpu, cpu:N or cuda:N"),
    "pytorch": (f"{_CPU}|{_CUDA}", "cpu, cpu:N or cuda:N"),
    "tensorrt": (_CUDA, "cuda:N"),
    "simulated": (r"[\w.:-]+", "any names of letters, digits and :"),
}


class BackendSettings(Group):
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
    successor: Path | None = Field(
        default=None,
        description="Folder in which a better artifact of the same weights may appear, such as the plan that is being "
        "built; the server goes on with it once it is verified, and loses no request.",
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
    simulated_mixed_sizes: bool = Field(
        default=False, description="Whether a simulated run may hold several sizes, as one of a masked model may."
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
    def _what_is_given_is_used(self) -> Self:
        owners = {"torch_precision": "pytorch", "torch_compile": "pytorch", "onnx_providers": "onnx"}
        for field, owner in owners.items():
            if field in self.model_fields_set and self.backend != owner:
                raise ValueError(
                    f"{PREFIX}{field.upper()} is of the backend {owner}, and {PREFIX}BACKEND is {self.backend}"
                )
        return self

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
