"""The Backend protocol: a batch of images in, restored images out, blocking."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from models.artifact import Manifest
from server.errors import BackendError

Pixels = NDArray[np.float32]
"""float32 RGB in [0, 1]: (3, H, W) for one tile, (N, 3, H, W) for a batch."""
Aux = NDArray[np.float32]
"""The model's auxiliary output: (rows, columns) for one image, (N, rows, columns) for a batch; see `AuxOutput`."""
Sizes = NDArray[np.int64]
"""(N, 2): the height and width of each image of a batch whose images are smaller than its arrays."""
RunPrecision = Literal["normal", "fp32"]
"""How a batch runs: in the precision that the backend serves, or in FP32 throughout."""


@dataclass(frozen=True)
class AuxOutput:
    """What the model reports about each image beside its pixels: prompt weights and degradation probabilities."""

    shape: tuple[int, int]
    """(rows, columns): one row of prompt weights for each level, coarse to fine, then one of the labels, if any."""
    labels: tuple[str, ...] = ()
    """The degradations whose probabilities the last row holds; empty for a model without a degradation head."""

    def empty(self, count: int) -> Aux:
        """Allocate the output of `count` images, not filled in."""
        return np.empty((count, *self.shape), np.float32)


class SizeRange(NamedTuple):
    """The (height, width) of the smallest and of the largest image that a model takes."""

    least: tuple[int, int]
    most: tuple[int, int]

    def holds(self, height: int, width: int) -> bool:
        return self.least[0] <= height <= self.most[0] and self.least[1] <= width <= self.most[1]


@dataclass(frozen=True)
class ModelSpec:
    """The identity of a model and the inputs it accepts."""

    name: str
    precision: str
    """Such as fp32, fp16, bf16 or mixed."""
    size_multiple: int
    """Heights and widths are multiples of this."""
    hash: str = ""
    """SHA-256 of the model file, which distinguishes two artifacts of the same name."""
    channels: int = 3
    mixed_sizes: bool = False
    """Whether a batch may hold images of several sizes: the model then takes a validity mask."""
    aux: AuxOutput | None = None
    """None for a model that returns pixels alone."""
    size_ranges: tuple[SizeRange, ...] = ()
    """Empty for a model that takes images of any size."""

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Describe the model of an artifact."""
        output = manifest.prompt_output
        return cls(
            name=manifest.name,
            precision=manifest.precision,
            size_multiple=manifest.size_multiple,
            hash=manifest.sha256,
            channels=manifest.input_shape[1],
            mixed_sizes=manifest.size_inputs is not None,
            aux=None if output is None else AuxOutput(output.shape, output.labels),
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The degradations that the model names; empty if it names none."""
        return () if self.aux is None else self.aux.labels

    def takes(self, height: int, width: int) -> bool:
        """Tell whether the model takes an image of this size, in multiples of `size_multiple`."""
        return not self.size_ranges or any(sizes.holds(height, width) for sizes in self.size_ranges)

    def check(self, batch: "ModelInput") -> None:
        """Raise BackendError for a batch whose sizes or precision a run of this model would ignore."""
        if batch.sizes is not None and not self.mixed_sizes:
            raise BackendError(f"{self.name} takes no validity mask: the images of a batch must have the same size")
        if batch.precision == "fp32" and self.precision != "fp32":
            raise BackendError(f"this backend holds {self.name} in {self.precision} only, and cannot run it in fp32")


@dataclass(frozen=True, eq=False, slots=True)
class ModelInput:
    """One batch as a backend takes it."""

    pixels: Pixels
    """(N, 3, H, W), H and W multiples of the model's `size_multiple`; must not change until the result is there."""
    sizes: Sizes | None = None
    """The size of each image where they differ: it lies in the top left corner of its (3, H, W), zeros around it."""
    precision: RunPrecision = "normal"

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 3, H, W)."""
        return self.pixels.shape

    @property
    def each_size(self) -> Sizes:
        """The size of each image, which is (H, W) for all where they do not differ."""
        return np.full((len(self.pixels), 2), self.shape[2:], np.int64) if self.sizes is None else self.sizes


@dataclass(frozen=True, eq=False, slots=True)
class Result:
    """What a run returns."""

    pixels: Pixels
    """A fresh array in the shape of the input; its values outside the images of a mixed-size batch are undefined."""
    aux: Aux | None = None
    """(N, *AuxOutput.shape); None for a model without this output."""


@dataclass(frozen=True)
class BackendInfo:
    """What a started backend reports about itself."""

    model: ModelSpec
    backend: str
    device: str
    max_batch: int
    can_repeat_in_fp32: bool = False
    """Whether the backend runs below FP32 and also takes batches with precision fp32."""
    can_begin_ahead: bool = False
    """Whether the backend is a `PipelinedBackend`."""

    @property
    def log_fields(self) -> dict[str, object]:
        """Name the model, the backend and the device for a log record."""
        return {
            "backend": self.backend,
            "device": self.device,
            "artifact": self.model.name,
            "model_hash": self.model.hash,
            "precision": self.model.precision,
            "max_batch": self.max_batch,
            "mixed_sizes": self.model.mixed_sizes,
        }


class Backend(Protocol):
    """Runs one model in one runtime on one device.

    A single thread uses it: it calls `start`, then `run` any number of times, then `stop`. There is no asyncio, HTTP
    or queue inside.
    """

    def start(self) -> BackendInfo:
        """Load everything a run needs.

        Raises BackendUnavailable with a sentence that says what to do; nothing stays loaded then.
        """
        ...

    def run(self, batch: ModelInput) -> Result:
        """Restore a batch; each image of a mixed-size batch comes out as if it had run alone.

        Raises DeviceOutOfMemory where a smaller batch may fit, UnsupportedSize where no batch of such images does,
        BackendLost where the device is unusable, BackendError for all else; after all but BackendLost the backend
        stays usable.
        """
        ...

    def stop(self) -> None:
        """Release the device; safe to call twice and without `start`."""
        ...


class Pending(Protocol):
    """A run that has begun and continues on the device by itself."""

    def wait(self, seconds: float) -> None:
        """Return when the run has ended, or after `seconds`; only `result` tells how it ended."""
        ...

    def result(self) -> Result:
        """Block until the run has ended, and return or raise as `run`; called once."""
        ...


class PipelinedBackend(Backend, Protocol):
    """A backend that accepts the next batch while one runs; its `BackendInfo.can_begin_ahead` is true.

    Runs follow one another on the device; only the work around them overlaps. `run` is `begin` and then `result`.
    """

    def begin(self, batch: ModelInput) -> Pending:
        """Start a run, or queue it behind the current one; at most two are begun at a time.

        Raises as `run`, which does no harm to what was begun before. `stop` abandons runs without a result yet.
        """
        ...
