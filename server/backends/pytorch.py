"""The PyTorch backend: the network itself, on the CPU or on a CUDA device."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from models.artifact import ArtifactError, Manifest, sha256_of
from server.backends.base import BackendInfo, Pixels
from server.backends.cpu_share import threads_for
from server.backends.shape_cache import ShapeCache
from server.errors import BackendError, BackendUnavailable, DeviceOutOfMemory
from server.settings import BackendSettings

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

WEIGHTS_FILE = "weights.safetensors"
SIZE_MULTIPLE = 8
# The first runs of a shape choose algorithms and fill caches, which must not happen inside a recording.
RUNS_BEFORE_RECORDING = 2
# Each holds some thousand kernel nodes on the device, whatever its tensors take.
MOST_RECORDINGS = 32
CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, where it comes from a library under torch


class TorchBackend:
    """Serves the weights of an artifact folder, or a checkpoint, in eager or compiled PyTorch.

    Below FP32 it holds the network twice, so that a run can be repeated in FP32. On CUDA a shape that comes again is
    recorded as a CUDA graph.
    """

    def __init__(self, settings: BackendSettings, max_batch: int) -> None:
        self._settings = settings
        self._max_batch = max_batch
        self._torch: Any = None
        self._network: Any = None
        self._fp32_network: Any = None
        self._recordings: _Recordings | None = None

    def start(self) -> BackendInfo:
        """Load the weights onto the device; BackendUnavailable says what is missing or does not fit."""
        torch = _import_torch()
        settings = self._settings
        _check_device(torch, settings.torch_device)
        name, network = _load(settings.artifact)
        if threads := threads_for(settings.threads):
            torch.set_num_threads(threads)
        on_cuda = settings.torch_device == "cuda"
        if on_cuda:
            # FP32 is the reference here: TF32 would round it to ten bits.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        mixed = settings.torch_precision != "fp32"
        try:
            self._fp32_network = _placed(network, settings) if mixed else None
            self._network = _placed(_mixed(torch, network, settings) if mixed else network, settings)
        except torch.OutOfMemoryError as error:
            self.stop()
            raise BackendUnavailable(
                f"the weights of {settings.artifact} do not fit the device's free memory"
            ) from error
        if settings.torch_compile:
            self._network = torch.compile(self._network, dynamic=True)
        if on_cuda:
            self._recordings = _Recordings(torch, self._network, settings.device_cache_bytes)
        self._torch = torch
        return BackendInfo(
            backend="pytorch",
            device=torch.cuda.get_device_name() if on_cuda else "cpu",
            artifact=name,
            precision=settings.torch_precision,
            size_multiple=SIZE_MULTIPLE,
            max_batch=self._max_batch,
            can_repeat_in_fp32=mixed,
        )

    def run(self, batch: Pixels) -> Pixels:
        """Restore (N, 3, H, W); DeviceOutOfMemory, or BackendError caused by torch's own exception."""
        return self._guarded(self._network if self._recordings is None else self._recordings.run, batch)

    def run_fp32(self, batch: Pixels) -> Pixels:
        """As `run`, in FP32; only where the precision is another."""
        return self._guarded(self._fp32_network, batch)

    def stop(self) -> None:
        """Release the weights, the recordings and the memory that torch keeps."""
        self._network = self._fp32_network = self._recordings = None
        self._release_memory()
        self._torch = None

    def _guarded(self, network: Any, batch: Pixels) -> Pixels:
        if self._torch is None or network is None:
            raise BackendError("the PyTorch backend is not started")
        out_of_memory = self._torch.OutOfMemoryError
        try:
            with self._torch.inference_mode():
                return self._compute(network, batch)
        except Exception as error:
            if not isinstance(error, out_of_memory) and getattr(error, "error_code", None) != CUDA_OUT_OF_MEMORY:
                raise BackendError(f"torch failed on a batch of shape {batch.shape}") from error
        # Only here is the traceback gone, and with it the last hold on the failed run's tensors.
        if self._recordings is not None:
            self._recordings.clear()
        self._release_memory()
        raise DeviceOutOfMemory(f"a batch of shape {batch.shape} does not fit the device's memory")

    def _compute(self, network: Any, batch: Pixels) -> Pixels:
        torch = self._torch
        image = torch.from_numpy(np.require(batch, requirements="W"))
        if self._settings.torch_device == "cpu":
            return network(image).contiguous().numpy()  # type: ignore[no-any-return]
        # Page-locked memory, which torch keeps and hands out again, lets the copy engines run at full speed.
        image = torch.empty(image.shape, pin_memory=True).copy_(image).to("cuda", non_blocking=True)
        output = network(image)
        answer = torch.empty(output.shape, dtype=output.dtype, pin_memory=True).copy_(output, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return answer.numpy()  # type: ignore[no-any-return]

    def _release_memory(self) -> None:
        if self._torch is not None and self._torch.cuda.is_initialized():
            self._torch.cuda.empty_cache()


@dataclass(frozen=True)
class _Recording:
    graph: "torch.cuda.CUDAGraph"
    image: "torch.Tensor"
    output: "torch.Tensor"


class _Recordings:
    """CUDA graphs of a network, one a shape, each with its own memory so that dropping one gives it all back."""

    def __init__(self, torch: ModuleType, network: Any, max_bytes: int) -> None:
        self._torch: Any = torch
        self._network = network
        self._cache: ShapeCache[_Recording] = ShapeCache(max_bytes, MOST_RECORDINGS, RUNS_BEFORE_RECORDING)

    def run(self, image: "torch.Tensor") -> Any:
        """Answer for (N, 3, H, W) on the device; the answer is overwritten by the next run of its shape."""
        shape = tuple(image.shape)
        recording = self._cache.get(shape)
        if recording is None and self._cache.is_due(shape):
            recording = self._record(image)
        if recording is None:
            return self._network(image)
        recording.image.copy_(image)
        recording.graph.replay()
        return recording.output

    def clear(self) -> None:
        """Drop every recording and its memory."""
        self._cache.clear()

    def _record(self, image: "torch.Tensor") -> _Recording | None:
        """Record a run of this shape; None where it cannot be recorded, or takes more memory than the budget."""
        torch, shape = self._torch, tuple(image.shape)
        before = torch.cuda.memory_reserved()
        try:
            graph, static = torch.cuda.CUDAGraph(), image.clone()
            with torch.cuda.graph(graph):
                output = self._network(static)
        except RuntimeError as error:  # out of memory too; the run itself may well go on without a graph
            log.warning("a shape cannot be recorded as a CUDA graph", extra={"shape": shape, "reason": str(error)})
            self._cache.refuse(shape)
            return None
        recording = _Recording(graph, static, output)
        self._cache.put(shape, recording, max(0, torch.cuda.memory_reserved() - before))
        return self._cache.get(shape)


def _import_torch() -> Any:
    try:
        import safetensors  # noqa: F401 - the weights are read with it
        import torch
    except ImportError as error:
        raise BackendUnavailable(
            f"torch is not installed or does not load here ({error}): install this package with the extra `pytorch`"
        ) from error
    return torch


def _check_device(torch: Any, device: str) -> None:
    if device == "cpu":
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an old driver, which the error below says as well
        usable = torch.cuda.is_available()
    if usable:
        return
    if torch.version.cuda is None:
        raise BackendUnavailable(
            f"the installed torch {torch.__version__} has no CUDA: install a build with CUDA, or set the device to cpu"
        )
    raise BackendUnavailable(
        f"torch {torch.__version__} finds no usable NVIDIA GPU or driver for CUDA {torch.version.cuda}: "
        "check with nvidia-smi, or set the device to cpu"
    )


def _load(artifact: Path) -> tuple[str, Any]:
    """Return the name and the network, in FP32 on the CPU, of an artifact folder or of a weights file."""
    from models.checkpoint import CheckpointError, load_network, variant_of
    from models.promptir import PromptIRConfig

    try:
        if not artifact.is_dir():
            return artifact.stem, load_network(artifact, PromptIRConfig.named(variant_of(artifact)))
        manifest, weights = Manifest.load(artifact), artifact / WEIGHTS_FILE
        if not weights.is_file():
            raise CheckpointError(f"{artifact} has no {WEIGHTS_FILE}, which this backend runs instead of the ONNX file")
        if manifest.weights_sha256 is not None and sha256_of(weights) != manifest.weights_sha256:
            raise CheckpointError(f"{weights} is not the file that {artifact.name} was exported from (sha256 differs)")
        return manifest.name, load_network(weights, PromptIRConfig.named(manifest.variant))
    except (ArtifactError, CheckpointError, ValueError) as error:
        raise BackendUnavailable(f"the weights cannot be served: {error}") from error


def _mixed(torch: Any, network: Any, settings: BackendSettings) -> Any:
    from models.precision import to_mixed

    return to_mixed(network, {"fp16": torch.float16, "bf16": torch.bfloat16}[settings.torch_precision])


def _placed(network: Any, settings: BackendSettings) -> Any:
    from models.promptir import channels_last

    return channels_last(network.to(settings.torch_device))
