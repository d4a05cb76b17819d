"""Manifest of a TensorRT plan: JSON that the exporter writes and the server checks."""

import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.artifact import MODEL_FILE, ArtifactError, Count, Manifest, Name, Parity, Sha256

PLAN_FILE = "model.plan"
PORTABLE = "portable"
"""`device` of a portable plan, whose kernels are compiled at load time."""
AMPERE = (8, 0)

Flavour = Literal["tensorrt", "tensorrt_rtx"]
"""Import name of the library, Enterprise TensorRT or TensorRT-RTX. Neither reads the other's plans."""
HardwareCompatibility = Literal["none", "ampere_plus", "same_compute_capability"]
Extent = tuple[Count, Count, Count]
"""Batch, height, width."""
LayerTypes = dict[str, dict[str, int]]
"""Layer type -> data type of its first output -> number of such layers."""


class ShapeOutsideProfiles(ValueError):  # noqa: N818 - named for what happened, like the server's errors
    """Batch that fits none of the plan's shape profiles; the message is one sentence for an operator."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ShapeProfile(_Record):
    """Range of extents (n, h, w) that an optimisation profile accepts, and the extent its kernels are tuned for."""

    min: Extent
    opt: Extent
    max: Extent

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not all(low <= best <= high for low, best, high in zip(self.min, self.opt, self.max, strict=True)):
            raise ValueError(f"every axis must have min <= opt <= max, found {self}")
        return self

    def __str__(self) -> str:
        return ":".join("x".join(map(str, extent)) for extent in (self.min, self.opt, self.max))

    def holds(self, extent: Extent) -> bool:
        """Return whether a batch of this extent may run under the profile."""
        return all(low <= axis <= high for low, axis, high in zip(self.min, extent, self.max, strict=True))


class BuildOptions(_Record):
    """Options given to the builder; None leaves the choice to the library."""

    workspace_mb: Count | None = None
    optimisation_level: Annotated[int, Field(ge=0, le=5)] | None = None
    hardware_compatibility: HardwareCompatibility = "none"
    version_compatible: bool = False


class PlanManifest(Manifest):
    """Description of a plan, which the server checks before it loads the plan.

    `parity` is measured on the plan; if that was impossible, it is empty and `parity_unmeasured` has the reason.
    """

    model_file: ClassVar[str] = PLAN_FILE

    flavour: Flavour
    tensorrt_version: Name
    device: Name = PORTABLE
    compute_capability: Annotated[str, Field(pattern=r"^\d+\.\d+$")] | None = None
    """Compute capability of the device the plan was built on, such as "9.0"; None for a portable plan."""
    driver: Name | None = None
    """Newest CUDA version supported by the driver of the build machine."""
    profiles: Annotated[tuple[ShapeProfile, ...], Field(min_length=1)]
    options: BuildOptions
    layer_types: LayerTypes
    """Audited layer types of the network that the plan was built from."""
    onnx_sha256: Sha256
    """Hash of the ONNX file that the plan was built from."""
    onnx_parity: tuple[Parity, ...]
    """Parity of that ONNX file against PyTorch."""
    parity_unmeasured: Name | None = None
    """Reason why `parity` is empty, in one sentence, such as that the build machine cannot run the plan."""

    @model_validator(mode="after")
    def _parity_or_a_reason(self) -> Self:
        if bool(self.parity) == bool(self.parity_unmeasured):
            raise ValueError("the manifest needs either parity or the reason why it was not measured; build it again")
        return self

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the plan manifest in `folder`; raise `ArtifactError` if missing, damaged or of an ONNX file."""
        if (folder / MODEL_FILE).exists() and not (folder / PLAN_FILE).exists():
            raise ArtifactError(
                f"{folder} contains an ONNX artifact, not a TensorRT plan; build one with: promptir-export tensorrt"
            )
        return super().load(folder)

    def profile_for(self, extent: Extent) -> int:
        """Return the index of the profile that accepts a batch of (n, h, w) and has the nearest optimum.

        Raises `ShapeOutsideProfiles` if no profile accepts it.
        """
        holding = [index for index, profile in enumerate(self.profiles) if profile.holds(extent)]
        if not holding:
            ranges = ", ".join(f"{_by(profile.min)} to {_by(profile.max)}" for profile in self.profiles)
            raise ShapeOutsideProfiles(
                f"no profile of the plan accepts the shape {_by(extent)} (batch x height x width); they accept {ranges}"
            )
        pixels = math.prod(extent)
        return min(holding, key=lambda index: abs(math.log(pixels / math.prod(self.profiles[index].opt))))

    def first_gap(self, whole_pixels: int, longest_side: int) -> tuple[int, int] | None:
        """Find a (height, width) of a single image that no profile accepts; None if every size is accepted.

        Searches all sizes in steps of `size_multiple` with at most `whole_pixels` and no side over `longest_side`.
        """
        step = self.size_multiple
        singles = [profile for profile in self.profiles if profile.min[0] == 1]
        for width in range(step, longest_side + 1, step):
            height, tallest = step, min(longest_side, whole_pixels // width)
            while height <= tallest:
                held = [profile.max[1] for profile in singles if profile.holds((1, height, width))]
                if not held:
                    return height, width
                height = max(held) // step * step + step
        return None

    def check_runtime(self, flavour: str, version: str, compute_capability: str | None) -> None:
        """Check the plan against this library and device; raise `ArtifactError` if the plan cannot run there.

        `compute_capability` is None if unknown. A portable plan runs on any device that the library supports.
        """
        built = f"the plan was built by {self.flavour} {self.tensorrt_version}"
        if flavour != self.flavour:
            raise ArtifactError(f"{built} and cannot be read by {flavour} {version}; build it again here")
        if not self._reads(version):
            raise ArtifactError(f"{built} and cannot be read by version {version}; build it again here")
        if self.compute_capability is None or compute_capability is None:
            return
        if not self._runs_on(compute_capability):
            raise ArtifactError(
                f"the plan was built on {self.device} (compute capability {self.compute_capability}, hardware "
                f"compatibility {self.options.hardware_compatibility}) and cannot run on compute capability "
                f"{compute_capability}; build it again here"
            )

    def _reads(self, version: str) -> bool:
        built, found = _numbers(self.tensorrt_version), _numbers(version)
        if self.options.version_compatible:
            return found[0] == built[0] and found >= built
        return found == built

    def _runs_on(self, compute_capability: str) -> bool:
        if self.options.hardware_compatibility == "ampere_plus":
            return _numbers(compute_capability) >= AMPERE
        return compute_capability == self.compute_capability


def _by(extent: Extent) -> str:
    return "x".join(map(str, extent))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
