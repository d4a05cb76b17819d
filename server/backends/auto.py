"""The automatic choice of a backend: the fastest that can run the artifact on this machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from models.artifact import DEFAULT_ARTIFACT, MODEL_FILE, ArtifactError, Manifest
from models.nvidia_gpu import Device, find_device
from models.plan_manifest import PLAN_FILE, PlanManifest
from server.backends.onnx_providers import PROVIDER_NAMES, import_onnxruntime
from server.backends.pytorch import WEIGHTS_FILE
from server.backends.settings import split
from server.backends.tensorrt_plan import import_tensorrt
from server.backends.torch_library import check_cuda, import_torch
from server.errors import BackendUnavailable

AUTO = "auto"
GPU_PRECISION = "fp16"


@dataclass(frozen=True)
class Choice:
    """A backend, why it was chosen, and why those that would be faster were not."""

    backend: str
    reason: str
    settings: Mapping[str, object] = field(default_factory=dict)
    """Further settings that the choice implies."""
    rejected: tuple[str, ...] = ()
    """One sentence for each faster backend."""

    @property
    def sentence(self) -> str:
        """Say what was chosen and why, in one line."""
        return "; ".join((f"{self.backend}, because {self.reason}", *(f"not {one}" for one in self.rejected)))


class _Rejected(ValueError):  # noqa: N818 - named for what happened
    """A backend that cannot be chosen; the message is the reason."""


@dataclass(frozen=True)
class _Given:
    """The settings that matter for the choice, as given or by default."""

    artifacts: tuple[Path, ...]
    successors: tuple[Path, ...]
    device: str | None
    """The first of the devices that are named, if any."""
    names: frozenset[str]


def choose(given: Mapping[str, Any], find_gpu: Callable[[], Device | None] = find_device) -> Choice:
    """Choose a backend for settings that name none, given as text or validated.

    In this order: a verified TensorRT plan for this GPU, PyTorch in FP16 on CUDA, ONNX Runtime on CUDA, ONNX Runtime on
    the CPU. Without an NVIDIA driver and a GPU, which are asked for first, no runtime is imported.
    """
    known = _read(given)
    if (fixed := _only_possibility(known)) is not None:
        return fixed
    gpu = find_gpu()
    if gpu is None:
        return Choice("onnx", "this machine has no NVIDIA GPU or driver")
    rejected: list[str] = []
    for name, candidate in _CANDIDATES:
        try:
            found = candidate(known, gpu)
        except (_Rejected, ArtifactError, BackendUnavailable) as error:
            rejected.append(f"{name}: {error}")
        else:
            return Choice(found.backend, found.reason, found.settings, tuple(rejected))
    return Choice("onnx", f"nothing else can use the {gpu.name}", rejected=tuple(rejected))


def _read(given: Mapping[str, Any]) -> _Given:
    artifacts, successors, devices = (split(given.get(name)) or () for name in ("artifact", "successor", "devices"))
    return _Given(
        artifacts=tuple(map(Path, artifacts)) or (DEFAULT_ARTIFACT,),
        successors=tuple(map(Path, successors)),
        device=next(iter(devices), None),
        names=frozenset(given),
    )


def _only_possibility(known: _Given) -> Choice | None:
    """Return the backend that the settings or the artifact leave as the only one, if they do."""
    if "onnx_providers" in known.names:
        return Choice("onnx", "its providers are set")
    if all((folder / PLAN_FILE).exists() and not (folder / MODEL_FILE).exists() for folder in known.artifacts):
        return Choice("tensorrt", "the artifact is a TensorRT plan")
    if known.device is not None and known.device.startswith("cpu"):
        return Choice("onnx", "the devices that are set are CPUs")
    return None


def _plan(known: _Given, gpu: Device) -> Choice:
    if len(known.artifacts) > 1:
        raise _Rejected("several models are served, and each switches to its plan later")
    if not known.successors:
        raise _Rejected("no folder with a plan is set")
    (artifact,), folder = known.artifacts, known.successors[0]
    if not (folder / PLAN_FILE).exists():
        raise _Rejected("there is no plan in the successor folder")
    manifest = PlanManifest.load(folder)
    if not manifest.parity:
        raise _Rejected(f"the plan in {folder} is not verified: {manifest.parity_unmeasured}")
    if manifest.weights_sha256 != Manifest.load(artifact).weights_sha256:
        raise _Rejected(f"the plan in {folder} was not made from the weights of the artifact")
    library = import_tensorrt()
    manifest.check_runtime(library.__name__, library.__version__, gpu.compute_capability)
    manifest.verify(folder)
    return Choice("tensorrt", f"a verified plan for the {gpu.name} is there", {"artifact": (folder,)})


def _torch(known: _Given, gpu: Device) -> Choice:
    if any(folder.is_dir() and not (folder / WEIGHTS_FILE).is_file() for folder in known.artifacts):
        raise _Rejected(f"an artifact has no {WEIGHTS_FILE}")
    if find_spec("torch") is None:
        raise _Rejected("torch is not installed")
    check_cuda(import_torch(), 0)
    settings: dict[str, object] = {} if known.device else {"devices": ("cuda:0",)}
    if "torch_precision" not in known.names:
        settings["torch_precision"] = GPU_PRECISION
    return Choice("pytorch", f"torch can use the {gpu.name}", settings)


def _onnx_cuda(known: _Given, gpu: Device) -> Choice:
    try:
        metadata.distribution("onnxruntime-gpu")
    except metadata.PackageNotFoundError:
        raise _Rejected("onnxruntime-gpu is not installed") from None
    if not all((folder / MODEL_FILE).is_file() for folder in known.artifacts):
        raise _Rejected(f"an artifact has no {MODEL_FILE}")
    library = import_onnxruntime()
    if PROVIDER_NAMES["cuda"] not in library.get_available_providers():
        raise _Rejected("this onnxruntime has no provider cuda")
    needed = str(getattr(library, "cuda_version", "") or "0").partition(".")[0]
    if int(gpu.driver.removeprefix("CUDA ").partition(".")[0]) < int(needed):
        raise _Rejected(f"this onnxruntime needs a driver for CUDA {needed}, and the driver supports {gpu.driver}")
    return Choice("onnx", f"onnxruntime can use the {gpu.name}", {"onnx_providers": ("cuda",)})


_CANDIDATES: tuple[tuple[str, Callable[[_Given, Device], Choice]], ...] = (
    ("tensorrt", _plan),
    ("pytorch", _torch),
    ("onnx on CUDA", _onnx_cuda),
)
