"""Backend settings: the runtime that runs the network, its devices, and what each backend adds."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_origin

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from models.artifact import DEFAULT_ARTIFACT
from server.backends import device_names, registry
from server.backends.auto import AUTO, Choice, choose
from server.backends.settings import RuntimeSettings
from server.settings.group import PREFIX, Group, split

if TYPE_CHECKING:
    _EveryBackend = RuntimeSettings
else:
    _EveryBackend = create_model(
        "_EveryBackend",
        # Python's order of base classes puts the fields of the last base first.
        __base__=tuple(reversed([kind.settings_type for kind in registry().values() if kind.own_fields])),
        backend=(
            Literal[(AUTO, *registry())],
            Field(
                default=AUTO,
                description="The runtime. `auto` takes the fastest one for this machine: a verified TensorRT plan, "
                "PyTorch in FP16 or ONNX Runtime on an NVIDIA GPU, else ONNX Runtime on the CPU; `promptir config` and "
                "the log say which, and why. `simulated` returns its input after a known time, for load tests.",
            ),
        ),
    )
    """The settings of all registered backends in one model."""


class BackendSettings(Group, _EveryBackend):
    """The runtime that runs the network, and its devices."""

    artifact: tuple[Path, ...] = Field(  # type: ignore[assignment]  # a backend has one, the server may have several
        default=(DEFAULT_ARTIFACT,),
        min_length=1,
        description="Folder with manifest.json and the model; with `pytorch` also a weights file. Several, separated "
        "by commas, are served side by side; the first is the default model.",
    )
    run_timeout_s: float = Field(
        default=300.0,
        gt=0,
        description="A run that exceeds this and ten times its prediction has hung, and its device is lost. Raise it "
        "if a runtime compiles for new sizes during a run.",
    )
    successor: tuple[Path, ...] = Field(
        default=(),
        description="Folders where a better artifact of served weights may appear, such as a TensorRT plan that is "
        "being built; the server switches to it once it is verified, without losing a request.",
    )
    fp32_check_every: int = Field(
        default=0,
        ge=0,
        description="Compare one result in this many with FP32, which costs a slow run; 0 compares none.",
    )
    fp32_gate_db: float = Field(
        default=50.0,
        description="A compared result below this PSNR is replaced; lower values can be visible in 8 bits.",
    )

    _choice: Choice | None = PrivateAttr(None)

    @property
    def choice(self) -> Choice | None:
        """The automatic choice that `backend` is the result of; None if the backend was named."""
        return self._choice

    @property
    def device_names(self) -> tuple[str, ...]:
        """The devices that were asked for, or the default device of the backend."""
        return device_names(self)

    def of_model(self, artifact: Path, **changes: object) -> RuntimeSettings:
        """Return the settings of the backend that serves one of the artifacts."""
        kind = registry()[self.backend]
        given = {name: getattr(self, name) for name in kind.settings_type.model_fields}
        return kind.settings_type.model_validate(given | {"artifact": artifact} | changes)

    @model_validator(mode="wrap")
    @classmethod
    def _auto_is_resolved(cls, given: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(given, Mapping) or given.get("backend", AUTO) != AUTO:
            return validate(given)
        choice = choose(given)
        made = validate({**given, **choice.settings, "backend": choice.backend})
        made._choice = choice
        return made

    @field_validator("*", mode="before")
    @classmethod
    def _lists_are_separated_by_commas(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        return split(value) if get_origin(field.annotation) is tuple else value

    @model_validator(mode="after")
    def _what_is_given_is_used(self) -> Self:
        for kind in registry().values():
            for field in sorted(kind.own_fields & self.model_fields_set):
                if self.backend != kind.name:
                    raise ValueError(
                        f"{PREFIX}{field.upper()} is of the backend {kind.name}, and {PREFIX}BACKEND is {self.backend}"
                    )
        return self

    @model_validator(mode="after")
    def _the_backend_can_use_the_devices(self) -> Self:
        kind = registry()[self.backend]
        for device in self.devices:
            if not re.fullmatch(kind.devices, device):
                raise ValueError(f"{PREFIX}DEVICES={device}: the devices of {kind.name} are {kind.devices_in_words}")
            if self.devices.count(device) > 1:
                raise ValueError(f"{PREFIX}DEVICES={device}: a device is named once")
            if fault := kind.device_fault(self, device):
                raise ValueError(f"{PREFIX}DEVICES={device}: {fault}")
        return self
