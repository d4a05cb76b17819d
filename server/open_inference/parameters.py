"""Parameters: the options of a request of the protocol."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationError

from server.errors import InvalidRequest
from server.formats.output import OutputFormat
from server.restore.options import RestoreFields, RestoreOptions
from server.scheduling.queue.tile import Priority

# Triton's meaning: 0 is the default, 1 the highest, and greater numbers come later.
_INTERACTIVE = (0, 1)
_MICROSECONDS = 1e6
_SENT = "tensors are sent, not shared in memory"
_STATELESS = "no state is kept between requests"
_NOT_HERE = {
    "sequence_id": _STATELESS,
    "sequence_start": _STATELESS,
    "sequence_end": _STATELESS,
    "shared_memory_region": _SENT,
    "shared_memory_byte_size": _SENT,
    "shared_memory_offset": _SENT,
    "classification": "the answer is an image and has no classes",
}


class Parameters(RestoreFields):
    """The parameters of a request; unknown ones are ignored, and file options do not affect tensors of pixels."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    timeout: int = Field(default=0, ge=0, description="Microseconds in which the answer is useful; 0 for no limit.")
    priority: Annotated[int, Field(ge=0)] | Literal["interactive", "batch"] = Field(
        default=0, description="0 and 1 are `interactive`, greater numbers `batch`, which waits behind."
    )
    format: OutputFormat | Literal["same"] = Field(default=OutputFormat.PNG, description="Of files.")

    @classmethod
    def of(cls, given: Mapping[str, object]) -> "Parameters":
        """Check the parameters of a request; raises InvalidRequest with every fault."""
        refuse_features(given)
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise InvalidRequest("; ".join(f"parameter {name}: {text}" for name, text in _faults(error))) from None

    @property
    def patience_s(self) -> float | None:
        """The timeout in seconds; None without one."""
        return self.timeout / _MICROSECONDS if self.timeout else None

    @property
    def turn(self) -> Priority:
        """The priority class of the tiles."""
        if isinstance(self.priority, int):
            return Priority.INTERACTIVE if self.priority in _INTERACTIVE else Priority.BATCH
        return Priority.BATCH if self.priority == "batch" else Priority.INTERACTIVE

    @property
    def options(self) -> RestoreOptions:
        """Convert to the options of a restoration."""
        return self.with_output(None if self.format == "same" else OutputFormat(self.format))


def _faults(error: ValidationError) -> Iterable[tuple[str, str]]:
    # A parameter of several types has one fault for each of them; clients cannot send None, so it is not offered.
    faults: dict[str, str] = {}
    for fault in error.errors():
        name, text = str(fault["loc"][0]), fault["msg"]
        if name not in faults:
            faults[name] = text
        elif fault["type"] != "none_required":
            faults[name] += f" or {text.removeprefix('Input should be ')}"
    return faults.items()


def refuse_features(given: Mapping[str, object]) -> None:
    """Raise InvalidRequest for a parameter, of a request or a tensor, that asks for an unsupported feature."""
    for name, reason in _NOT_HERE.items():
        if given.get(name):
            raise InvalidRequest(f"{name} is not offered: {reason}.")
