"""The PyTorch backend: runs the network itself on the CPU or on a CUDA device."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from pydantic import Field

from models.artifact import ArtifactError, Manifest, sha256_of
from server.backends import device_names
from server.backends.base import AuxOutput, BackendInfo, ModelInput, ModelSpec, Pending, Result
from server.backends.cpu_share import threads_for
from server.backends.cuda_device import STICKY_FAULTS, cuda_index
from server.backends.kind import CPU, CUDA, BackendKind
from server.backends.settings import RuntimeSettings
from server.backends.torch_copies import Copies
from server.backends.torch_library import check_cuda, import_torch, keep_sums_exact
from server.backends.torch_recordings import Recordings
from server.errors import BackendError, BackendLost, BackendUnavailable, DeviceOutOfMemory

if TYPE_CHECKING:
    import torch

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

WEIGHTS_FILE = "weights.safetensors"
SIZE_MULTIPLE = 8
# Seconds between two queries of a run; CUDA has no wait with a bound.
QUERY_S = 0.0002
CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, where it comes from a library under torch


class TorchSettings(RuntimeSettings):
    """Settings of PyTorch."""

    torch_precision: Literal["fp32", "fp16", "bf16"] = Field(
        default="fp32", description="For `pytorch`; below fp32, sums over a whole image stay in fp32."
    )
    torch_compile: bool = Field(
        default=False, description="For `pytorch`: runs are faster, and the start takes minutes."
    )


class TorchBackend:
    """Serves the weights of an artifact folder, or a checkpoint, in eager or compiled PyTorch.

    Below FP32 it holds the network twice, so that a run can be repeated in FP32. On CUDA it records repeated shapes as
    CUDA graphs, and the copies of one batch overlap the run of another.
    """

    def __init__(self, settings: TorchSettings, max_batch: int, device: str | None = None) -> None:
        self._settings = settings
        self._max_batch = max_batch
        self._index = cuda_index(device or device_names(settings)[0])
        self._torch: Any = None
        self._network: Any = None
        self._fp32_network: Any = None
        self._recordings: Recordings | None = None
        self._copies: Copies | None = None

    def start(self) -> BackendInfo:
        """Load the weights onto the device; raises BackendUnavailable, which says what is missing or does not fit."""
        torch = import_torch()
        settings = self._settings
        on_cuda = self._index is not None
        if self._index is not None:
            check_cuda(torch, self._index)
            torch.cuda.set_device(self._index)  # of this thread, which is the one that runs
        name, network = _load(settings)
        aux = None if (shape := network.findings_shape) is None else AuxOutput(shape, network.degradation_labels)
        workers = sum(cuda_index(name) is None for name in device_names(settings))
        if threads := threads_for(settings.threads, workers=workers):
            torch.set_num_threads(threads)
            with suppress(RuntimeError):  # which has begun to use them, in a process that did more than this
                torch.set_num_interop_threads(1)
        if on_cuda:
            keep_sums_exact(torch)
        mixed = settings.torch_precision != "fp32"
        try:
            place = "cuda" if on_cuda else "cpu"
            self._fp32_network = _placed(network, place) if mixed else None
            self._network = _placed(_mixed(torch, network, settings) if mixed else network, place)
        except torch.OutOfMemoryError as error:
            self.stop()
            raise BackendUnavailable(
                f"the weights of {settings.artifact} do not fit the device's free memory"
            ) from error
        if on_cuda and settings.torch_precision == "fp16" and not settings.torch_compile:
            self._network = _accelerated(torch, self._network)
        if settings.torch_compile:
            self._network = torch.compile(self._network, dynamic=True)
        if on_cuda:
            self._recordings = Recordings(torch, self._network, settings.device_cache_bytes)
            self._copies = Copies(torch)
        self._torch = torch
        return BackendInfo(
            model=ModelSpec(
                name,
                settings.torch_precision,
                SIZE_MULTIPLE,
                hash=sha256_of(_weights_of(settings.artifact)),
                mixed_sizes=True,
                aux=aux,
            ),
            backend="pytorch",
            device=torch.cuda.get_device_name() if on_cuda else "cpu",
            max_batch=self._max_batch,
            can_repeat_in_fp32=mixed,
            can_begin_ahead=on_cuda,
        )

    def run(self, batch: ModelInput) -> Result:
        """Restore a batch; raises DeviceOutOfMemory, BackendLost, or BackendError caused by torch's own exception."""
        return self._begin(batch).result()

    def begin(self, batch: ModelInput) -> Pending:
        """Run a batch up to the point where the device works by itself; on the CPU that is the whole run."""
        return self._begin(batch)

    def stop(self) -> None:
        """Release the weights, the recordings and the memory that torch keeps."""
        if self._copies is not None:
            with suppress(Exception):  # a lost device; any other has to end what is begun before its graphs can go
                self._torch.cuda.synchronize()
        self._network = self._fp32_network = self._recordings = self._copies = None
        self._release_memory()
        self._torch = None

    def _network_for(self, batch: ModelInput) -> Any:
        """Choose the network for a batch: the FP32 copy if the batch asks for it and there is one."""
        if batch.precision == "fp32" and self._fp32_network is not None:
            return self._fp32_network
        return self._network if self._recordings is None else self._recordings.run

    def _begin(self, batch: ModelInput) -> "_TorchRun":
        network = self._network_for(batch)
        if self._torch is None or network is None:
            raise BackendError("the PyTorch backend is not started")
        sides = () if batch.sizes is None else np.ascontiguousarray(batch.sizes.T)

        def begin() -> _TorchRun:
            with self._torch.inference_mode():
                arrays = (np.require(batch.pixels, requirements="W"), *sides)
                inputs = [self._torch.from_numpy(array) for array in arrays]
                if self._copies is None:
                    return _TorchRun(self, batch.shape, [part.contiguous() for part in network(*inputs)])
                return _TorchRun(self, batch.shape, *self._copies.around(network, inputs))

        return self._guarded(begin, batch.shape)

    def _guarded(self, step: Callable[[], Answer], shape: tuple[int, ...]) -> Answer:
        """Do one step of a run, and raise its exceptions as errors of the server."""
        torch = self._torch
        try:
            return step()
        except Exception as error:
            if not isinstance(error, torch.OutOfMemoryError) and _code(error) != CUDA_OUT_OF_MEMORY:
                self._raise_if_lost(error)
                raise BackendError(f"torch failed on a batch of shape {shape}") from error
        # Only here is the traceback gone, which held the tensors of the failed run.
        if self._recordings is not None:
            torch.cuda.synchronize()  # another run may still replay what is dropped
            self._recordings.clear()
        self._release_memory()
        raise DeviceOutOfMemory(f"a batch of shape {shape} does not fit the device's memory")

    def _raise_if_lost(self, error: Exception) -> None:
        """Raise BackendLost if the device is unusable, which libraries under torch do not report."""
        sticky = error
        if _code(error) not in STICKY_FAULTS and self._copies is not None:
            try:
                self._torch.cuda.synchronize()
            except Exception as later:
                sticky = later
        if _code(sticky) in STICKY_FAULTS:
            raise BackendLost.until_restart(f"cuda:{self._index} is lost: {_first_line(sticky)}") from error

    def _release_memory(self) -> None:
        if self._torch is not None and self._torch.cuda.is_initialized():
            self._torch.cuda.empty_cache()


@dataclass(eq=False, slots=True)
class _TorchRun:
    """A batch that the network has begun: where its outputs will be, and the event after which they are there."""

    backend: TorchBackend
    shape: tuple[int, ...]
    outputs: "list[torch.Tensor]"
    arrived: "torch.cuda.Event | None" = None

    def wait(self, seconds: float) -> None:
        """Return when the outputs are there, or after `seconds`."""
        give_up = time.monotonic() + seconds
        while self.arrived is not None and (left_s := give_up - time.monotonic()) > 0 and not self._has_arrived():
            time.sleep(min(QUERY_S, left_s))

    def _has_arrived(self) -> bool:
        try:
            arrived: Any = self.arrived
            return arrived is None or bool(arrived.query())
        except Exception:  # the run failed, which `result` tells
            return True

    def result(self) -> Result:
        if self.arrived is not None:
            self.backend._guarded(self.arrived.synchronize, self.shape)
        return Result(*(output.numpy() for output in self.outputs))


def _code(error: Exception) -> int | None:
    """Return the cudaError_t of an exception of torch, if it has one."""
    return getattr(error, "error_code", None)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _weights_of(artifact: Path) -> Path:
    return artifact / WEIGHTS_FILE if artifact.is_dir() else artifact


def _load(settings: TorchSettings) -> tuple[str, Any]:
    """Return the name and the network, in FP32 on the CPU, of an artifact folder or of a weights file."""
    from models.checkpoint import load_network, variant_of
    from models.variants import variant

    manifest, weights = check_artifact(settings), _weights_of(settings.artifact)
    try:
        if manifest is None:
            return weights.stem, load_network(weights, variant(variant_of(weights)))
        return manifest.name, load_network(weights, variant(manifest.variant))
    except ValueError as error:
        raise _not_served(error) from error


def check_artifact(settings: TorchSettings) -> Manifest | None:
    """Check the weights against the manifest of their folder and return it; None for a file without one.

    Raises BackendUnavailable.
    """
    artifact, weights = settings.artifact, _weights_of(settings.artifact)
    try:
        if not artifact.exists():
            raise ArtifactError(f"{artifact} does not exist")
        if not artifact.is_dir():
            return None
        manifest = Manifest.load(artifact)
        if not weights.is_file():
            raise ArtifactError(f"{artifact} has no {WEIGHTS_FILE}, which this backend runs instead of the ONNX file")
        if manifest.weights_sha256 is not None and sha256_of(weights) != manifest.weights_sha256:
            raise ArtifactError(f"{weights} is not the file that {artifact.name} was exported from (sha256 differs)")
    except ArtifactError as error:
        raise _not_served(error) from error
    return manifest


def _not_served(error: Exception) -> BackendUnavailable:
    return BackendUnavailable(f"the weights cannot be served: {error}")


def _mixed(torch: Any, network: Any, settings: TorchSettings) -> Any:
    from models.precision import to_mixed

    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[settings.torch_precision]
    return to_mixed(network, dtype, wide_copies=False)


def _placed(network: Any, place: str) -> Any:
    """Place the network on its device, wrapped so that it returns its auxiliary output too."""
    from models.restoration import WithFindings, channels_last

    return WithFindings(channels_last(network.to(place)))


def _accelerated(torch: Any, network: Any) -> Any:
    """Let the network run on fused kernels, if they are installed and agree with torch's own on this device."""
    from models.kernels import accelerate

    network.network = accelerate(network.network, torch.device("cuda"))
    return network


KIND = BackendKind(
    name="pytorch",
    new=TorchBackend,
    devices=f"{CPU}|{CUDA}",
    devices_in_words="cpu, cpu:N or cuda:N",
    default_device=lambda settings: "cpu",
    settings_type=TorchSettings,
    check_artifact=check_artifact,
    platform="pytorch_libtorch",
)
