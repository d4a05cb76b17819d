"""What an HTTP process and the device process say to each other about one backend."""

from dataclasses import dataclass

from server.backends.base import Aux, BackendInfo, ModelInput, Pixels, RunPrecision, Sizes
from server.backends.settings import RuntimeSettings


@dataclass(frozen=True)
class Address:
    """Where the device process listens, and the secret that its callers prove to have."""

    path: str
    key: bytes


@dataclass(frozen=True)
class Start:
    """The first message of a connection: use this backend. The answer is a `Started` or an error."""

    settings: RuntimeSettings
    max_batch: int
    device: str
    abandoned: int | None = None
    """The number of the backend that this process had before, if it gave up a run that took too long."""

    @property
    def identity(self) -> tuple[str, str, int, str]:
        """The same for processes that can share a backend."""
        return self.settings.backend, self.settings.model_dump_json(), self.max_batch, self.device


@dataclass(frozen=True)
class Started:
    """A backend that serves, and its number, which no other has."""

    number: int
    info: BackendInfo


@dataclass(frozen=True, slots=True)
class Run:
    """A batch; the answer is a `Ran` or an error."""

    shape: tuple[int, ...]
    """(N, 3, H, W)."""
    pixels: str | Pixels
    """The name of the segment that begins with them, and in which the result replaces them; or the pixels."""
    sizes: Sizes | None = None
    precision: RunPrecision = "normal"

    def batch(self, pixels: Pixels) -> ModelInput:
        """Return the batch with its pixels."""
        return ModelInput(pixels, self.sizes, self.precision)


@dataclass(frozen=True, slots=True)
class Ran:
    """The result of a run, with its pixels unless they are in the segment of the batch."""

    pixels: Pixels | None
    aux: Aux | None
