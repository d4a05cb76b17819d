"""The TensorRT backend: runs a plan with Enterprise TensorRT or TensorRT-RTX."""

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.artifact import ArtifactError
from models.plan_manifest import PLAN_FILE, PlanManifest
from models.tensorrt_faults import creation_fault, import_fault, plan_fault
from server.backends import device_names
from server.backends.base import BackendInfo, ModelInput, ModelSpec, Pending, Result
from server.backends.cuda_device import CudaDevice, cuda_index, open_device
from server.backends.kind import CUDA, BackendKind
from server.backends.plan_parts import size_ranges
from server.backends.plan_runs import PlanRuns
from server.backends.settings import RuntimeSettings
from server.errors import BackendError, BackendUnavailable, DeviceOutOfMemory

log = logging.getLogger(__name__)

RUNTIME_CACHE_FILE = f"{PLAN_FILE}.kernels"


class PlanBackend:
    """Serves a plan after checking it against its manifest, the library and the device.

    Each profile has one execution context; all share one block of scratch memory, since runs are serial. TensorRT-RTX
    compiles its kernels for the device it finds; they are kept beside the plan, or in the cache folder.
    """

    def __init__(self, settings: RuntimeSettings, max_batch: int, device: str | None = None) -> None:
        self._settings = settings
        self._max_batch = max_batch
        self._index = cuda_index(device or device_names(settings)[0]) or 0
        self._trt: Any = None
        self._device: CudaDevice | None = None
        self._runs: PlanRuns | None = None
        self._kernels: Any = None
        self._scratch: int | None = None
        self._loaded: list[Any] = []

    def start(self) -> BackendInfo:
        """Load the plan onto the device; raises BackendUnavailable, which names the fault of the plan or the device."""
        try:
            return self._load()
        except (ArtifactError, BackendError) as error:
            with suppress(BackendError):  # a failed device may fail again, but the first error is the cause
                self.stop()
            if isinstance(error, BackendUnavailable):
                raise
            raise _not_served(error) from error

    def run(self, batch: ModelInput) -> Result:
        """Restore a batch; UnsupportedSize, DeviceOutOfMemory, BackendLost, or BackendError for all else."""
        return self.begin(batch).result()

    def begin(self, batch: ModelInput) -> Pending:
        """Run a batch up to the point where the device works by itself; its copies overlap the run before it.

        A repeated padded shape has one CUDA graph, whatever the sizes of the images in it.
        """
        if self._runs is None:
            raise BackendError("the TensorRT backend is not started")
        return self._runs.begin(batch)

    def stop(self) -> None:
        """Save the compiled kernels, then release the device."""
        self._save_kernels()
        runs, device, scratch = self._runs, self._device, self._scratch
        self._runs = self._kernels = self._device = self._scratch = None
        try:
            if runs is not None:
                runs.close()
        finally:  # also if the device is lost and releases nothing
            self._loaded.clear()  # contexts before the engine, and both before their memory
            if device is not None and scratch is not None:
                device.free(scratch)

    def _load(self) -> BackendInfo:
        folder = self._settings.artifact
        manifest = check_artifact(self._settings)
        trt = self._trt = import_tensorrt()
        manifest.check_runtime(trt.__name__, trt.__version__, None)  # before a device is asked for
        device = self._device = open_device(self._index)
        manifest.check_runtime(trt.__name__, trt.__version__, device.compute_capability)
        errors = _error_log(trt)
        engine = _deserialize(trt, folder / PLAN_FILE, errors, host_code=manifest.options.version_compatible)
        _check_engine(trt, engine, manifest)
        contexts = self._contexts(trt, engine, manifest)
        self._loaded = [contexts, engine]
        records = not hasattr(trt, "CudaGraphStrategy")
        self._runs = PlanRuns(manifest, contexts, device, self._settings.device_cache_bytes, records=records)
        return BackendInfo(
            model=replace(
                ModelSpec.of(manifest), hash=manifest.onnx_sha256, size_ranges=size_ranges(manifest.profiles)
            ),
            backend="tensorrt",
            device=device.name,
            max_batch=min(self._max_batch, max(profile.max[0] for profile in manifest.profiles)),
            can_begin_ahead=True,
        )

    def _contexts(self, trt: Any, engine: Any, manifest: PlanManifest) -> list[Any]:
        """Create a context for each profile, all on the same scratch memory, sized for the largest profile."""
        device = self._device
        if device is None:
            raise BackendError("the device is not open")
        size = max(1, engine.device_memory_size_v2)
        try:
            self._scratch = device.allocate(size)
        except DeviceOutOfMemory:
            raise BackendUnavailable(
                f"the plan needs {size / 2**30:.1f} GiB for its largest profile, more than the device has free: "
                "free the device, or build the plan with smaller profiles"
            ) from None
        contexts = []
        stream = device.new_stream()
        for index in range(len(manifest.profiles)):
            context = self._new_context(trt, engine)
            if context is None or not context.set_optimization_profile_async(index, stream):
                raise BackendUnavailable(f"TensorRT cannot make an execution context for profile {index} of the plan")
            context.set_device_memory(self._scratch, size)
            contexts.append(context)
        device.synchronize(stream)
        device.destroy_stream(stream)
        return contexts

    def _new_context(self, trt: Any, engine: Any) -> Any:
        user_managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not hasattr(trt, "CudaGraphStrategy"):
            return engine.create_execution_context(user_managed)
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(user_managed)
        # TensorRT-RTX records graphs itself; ours would freeze the fallback kernels of the first runs.
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        if self._kernels is None:
            self._kernels = config.create_runtime_cache()
            _restore(self._kernels, self._kernels_file())
        config.set_runtime_cache(self._kernels)
        return engine.create_execution_context(config)

    def _kernels_file(self) -> Path:
        return (self._settings.cache_folder or self._settings.artifact) / RUNTIME_CACHE_FILE

    def _save_kernels(self) -> None:
        if self._kernels is None:
            return
        path = self._kernels_file()
        partial = path.with_name(f"{path.name}.{self._index}.partial")  # the devices share the file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(bytes(memoryview(self._kernels.serialize())))
            partial.replace(path)
        except (OSError, TypeError) as error:  # TypeError: the library answered None
            log.warning("compiled kernels are not kept; the next start makes them again", extra={"reason": str(error)})


def import_tensorrt() -> Any:
    """Import TensorRT or, where that is not installed, TensorRT-RTX; raises BackendUnavailable if neither can be."""
    try:
        try:
            import tensorrt
        except ModuleNotFoundError as error:
            if error.name != "tensorrt":  # it is installed, but one of its dependencies is not
                raise
            import tensorrt_rtx as tensorrt
    except ImportError as error:
        raise BackendUnavailable(import_fault(error)) from error
    return tensorrt


def _error_log(trt: Any) -> Any:
    """Make a logger for the library that collects its errors in `lines`, for the message of a failure."""

    class ErrorLog(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                log.error("TensorRT: %s", message)
                self.lines.append(message)

    return ErrorLog()


def _deserialize(trt: Any, plan: Path, errors: Any, *, host_code: bool) -> Any:
    try:
        runtime = trt.Runtime(errors)
    except TypeError as error:
        raise BackendUnavailable(creation_fault(error)) from error
    if host_code:  # a version-compatible plan contains code; the file's hash was checked
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        raise BackendUnavailable(f"{plan}: {plan_fault(errors.lines)}")
    return engine


def _check_engine(trt: Any, engine: Any, manifest: PlanManifest) -> None:
    found = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
    expected = dict.fromkeys((manifest.input_name, *manifest.output_names), trt.float32)
    expected |= dict.fromkeys(manifest.size_inputs or (), trt.int64)
    if found != set(expected):
        raise BackendUnavailable(f"the plan's tensors are {sorted(found)}, its manifest says {sorted(expected)}")
    for name, wanted in sorted(expected.items()):
        if (dtype := engine.get_tensor_dtype(name)) != wanted:
            raise BackendUnavailable(f"the plan's {name} is {dtype} instead of {wanted}")
    if engine.num_optimization_profiles != len(manifest.profiles):
        raise BackendUnavailable(
            f"the plan has {engine.num_optimization_profiles} profiles, its manifest {len(manifest.profiles)}"
        )


def _restore(kernels: Any, path: Path) -> None:
    try:
        blob = path.read_bytes()
    except OSError:  # the first start here
        return
    if not kernels.deserialize(blob):
        log.info("kernels of another device, driver or version are made again", extra={"file": str(path)})


def _not_served(error: Exception) -> BackendUnavailable:
    return BackendUnavailable(f"the plan cannot be served: {error}")


def check_artifact(settings: RuntimeSettings) -> PlanManifest:
    """Check the plan file against its manifest and return the manifest; raises BackendUnavailable."""
    try:
        manifest = PlanManifest.load(settings.artifact)
        manifest.verify(settings.artifact)
    except ArtifactError as error:
        raise _not_served(error) from error
    return manifest


KIND = BackendKind(
    name="tensorrt",
    new=PlanBackend,
    devices=CUDA,
    devices_in_words="cuda:N",
    default_device=lambda settings: "cuda:0",
    check_artifact=check_artifact,
    platform="tensorrt_plan",
)
