"""The ONNX Runtime backend: runs an exported artifact on the CPU or on an NVIDIA device."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from models.artifact import MODEL_FILE, ArtifactError, Manifest
from server.backends import device_names
from server.backends.base import BackendInfo, ModelInput, ModelSpec, Pixels, Result, Sizes
from server.backends.cpu_share import threads_for
from server.backends.cuda_device import cuda_index, open_device
from server.backends.kind import CPU, CUDA, BackendKind
from server.backends.onnx_memory import releasing_options, use_arena
from server.backends.onnx_providers import (
    PROVIDER_NAMES,
    Provider,
    check_available,
    import_onnxruntime,
    load_cuda_libraries,
    provider_options,
)
from server.backends.session_check import check_session
from server.backends.settings import RuntimeSettings
from server.errors import BackendError, BackendLost, BackendUnavailable, DeviceOutOfMemory

if TYPE_CHECKING:
    import onnxruntime

ENGINE_FOLDER = "engines"
LOG_ERRORS_ONLY = 3
# The arena shrinks after a run of at most half the pixels that it has grown for.
RELEASE_BELOW = 2
# onnxruntime has no error code or class for this: these are the messages of its arenas and of CUDA.
OUT_OF_MEMORY_WORDS = ("Failed to allocate memory", "out of memory", "bad_alloc", "bad allocation")


class OnnxSettings(RuntimeSettings):
    """Settings of ONNX Runtime."""

    onnx_providers: tuple[Provider, ...] = Field(
        default=("cpu",),
        min_length=1,
        description="For `onnx`, best first, such as tensorrt,cuda,cpu; the start fails if one does not load.",
    )


class OnnxBackend:
    """Serves the artifact in a folder, after checking the file against its manifest and the session against both.

    Each requested provider must load. onnxruntime by itself would fall back to the CPU, a hundred times slower, and
    report that in its log only.
    """

    def __init__(self, settings: OnnxSettings, max_batch: int, device: str | None = None) -> None:
        self._settings = settings
        self._max_batch = max_batch
        self._index = cuda_index(device or device_names(settings)[0])
        self._providers: tuple[Provider, ...] = ("cpu",) if self._index is None else settings.onnx_providers
        self._session: onnxruntime.InferenceSession | None = None
        self._releasing: onnxruntime.RunOptions | None = None
        self._ort: Any = None
        self._held_pixels = 0
        self._device_images: dict[tuple[int, ...], Any] = {}
        self._manifest: Manifest | None = None
        self._model: ModelSpec | None = None

    @property
    def _on_device(self) -> bool:
        return self._index is not None

    def start(self) -> BackendInfo:
        """Load and check the artifact; raises BackendUnavailable, which says what is wrong with it or the runtime."""
        settings = self._settings
        manifest = check_artifact(settings)
        ort = self._ort = import_onnxruntime()
        check_available(ort, self._providers)
        load_cuda_libraries(ort, self._providers)
        session = _open_session(ort, settings, manifest, self._providers, self._index)
        check_session(session, manifest)
        self._session, self._releasing = session, None if self._on_device else releasing_options(ort)
        self._manifest, self._model = manifest, ModelSpec.of(manifest)
        device = "cpu" if self._index is None else f"cuda:{self._index} ({self._providers[0]})"
        return BackendInfo(self._model, "onnx", device, self._max_batch)

    def run(self, batch: ModelInput) -> Result:
        """Restore a batch; raises DeviceOutOfMemory, BackendLost, or BackendError caused by onnxruntime's exception."""
        if self._session is None or self._manifest is None or self._model is None:
            raise BackendError("the ONNX Runtime backend is not started")
        self._model.check(batch)
        # Contiguous rows, since onnxruntime reads no strides.
        sides = dict(zip(self._manifest.size_inputs or (), np.ascontiguousarray(batch.each_size.T), strict=False))
        try:
            if self._on_device:
                return self._run_bound(self._session, batch.pixels, "cuda", sides)
            inputs = {self._manifest.input_name: batch.pixels, **sides}
            options = self._options_for(batch.pixels)
            return Result(*self._session.run(self._manifest.output_names, inputs, options))
        except Exception as error:
            self._device_images.clear()
            if any(words in str(error) for words in OUT_OF_MEMORY_WORDS):
                raise DeviceOutOfMemory(f"a batch of shape {batch.shape} does not fit the memory") from error
            if self._on_device:
                _check_device(self._index)
            raise BackendError(f"onnxruntime failed on a batch of shape {batch.shape}") from error

    def stop(self) -> None:
        """Release the session and its memory."""
        self._device_images.clear()
        self._session = self._releasing = None
        self._held_pixels = 0

    def _run_bound(
        self,
        session: Any,
        batch: Pixels,
        device: str,
        sides: Mapping[str, Sizes] = MappingProxyType({}),
    ) -> Result:
        """Run with the input on the device and the outputs written straight into the result.

        The input of the last shape stays allocated, since buckets make batches of one shape follow one another.
        """
        manifest, model = self._manifest, self._model
        if manifest is None or model is None:
            raise BackendError("the ONNX Runtime backend is not started")
        image = self._device_images.get(batch.shape)
        if image is None:
            self._device_images.clear()
            image = self._ort.OrtValue.ortvalue_from_numpy(batch, device, self._index or 0)
            self._device_images[batch.shape] = image
        else:
            image.update_inplace(np.ascontiguousarray(batch))
        output = np.empty(batch.shape, np.float32)
        aux = None if model.aux is None else model.aux.empty(len(batch))
        binding = session.io_binding()
        binding.bind_ortvalue_input(manifest.input_name, image)
        for name, values in sides.items():
            binding.bind_cpu_input(name, values)
        for name, answer in zip(manifest.output_names, (output, aux), strict=False):  # a model may have no `aux`
            if answer is not None:
                binding.bind_output(name, "cpu", 0, np.float32, answer.shape, answer.ctypes.data)
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return Result(output, aux)

    def _options_for(self, batch: Pixels) -> "onnxruntime.RunOptions | None":
        """Choose options that release the arena once runs are much smaller than what it holds, so memory follows load.

        Releasing it after every run would cost each run about 15 % in page faults. The memory of the very first run
        is never released, so the warm-up should be small.
        """
        pixels = batch.size // 3
        if pixels * RELEASE_BELOW > self._held_pixels:
            self._held_pixels = max(self._held_pixels, pixels)
            return None
        self._held_pixels = pixels
        return self._releasing


def _open_session(
    ort: Any, settings: OnnxSettings, manifest: Manifest, providers: tuple[Provider, ...], index: int | None
) -> Any:
    model = settings.artifact / MODEL_FILE
    version = ort.__version__
    engines = settings.cache_folder or settings.artifact / ENGINE_FOLDER
    options = [
        (PROVIDER_NAMES[provider], provider_options(provider, engines, manifest.sha256, version, index or 0))
        for provider in providers
    ]
    workers = sum(cuda_index(device) is None for device in device_names(settings))
    try:
        session = ort.InferenceSession(
            model,
            session_options(ort, threads_for(settings.threads, workers=workers), on_cpu=index is None),
            providers=options,
            enable_fallback=0,  # its retry on the CPU would look like success
        )
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise BackendUnavailable(f"onnxruntime cannot load {model}: {error}") from error
    loaded = session.get_providers()
    for provider in providers:
        if PROVIDER_NAMES[provider] not in loaded:
            raise BackendUnavailable(
                f"onnxruntime could not load its provider {provider} and would run on {', '.join(loaded)}: check with "
                "nvidia-smi that there is a GPU, and that the versions of CUDA, cuDNN and TensorRT are those that "
                f"onnxruntime {version} was built for"
            )
    return session


def _check_device(index: int | None) -> None:
    """Ask CUDA whether the device is lost, and raise BackendLost if so: onnxruntime's exceptions carry no code."""
    try:
        open_device(index or 0).check()
    except BackendLost:
        raise
    except BackendError:  # only the run failed, as far as is known
        return


def session_options(ort: Any, threads: int, *, on_cpu: bool) -> "onnxruntime.SessionOptions":
    """Return the options of a session; `ort` is the module onnxruntime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1  # operators run one after the other
    options.log_severity_level = LOG_ERRORS_ONLY
    # Memory patterns are kept for each input shape, so they only grow with photos of every size, and save no time.
    options.enable_mem_pattern = False
    # Threads that spin between operators take a third of the time of other work on their cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if on_cpu:
        use_arena(ort, options)
    return options


def check_artifact(settings: OnnxSettings) -> Manifest:
    """Check the model file against its manifest and return the manifest; raises BackendUnavailable."""
    try:
        manifest = Manifest.load(settings.artifact)
        manifest.verify(settings.artifact)
    except ArtifactError as error:
        raise BackendUnavailable(f"the artifact cannot be served: {error}") from error
    return manifest


def default_device(settings: OnnxSettings) -> str:
    """Return the CPU, or the first GPU if the best provider needs one."""
    return "cpu" if settings.onnx_providers[0] == "cpu" else "cuda:0"


def device_fault(settings: OnnxSettings, device: str) -> str | None:
    """Refuse a GPU without a provider for it."""
    if device.startswith("cuda") and settings.onnx_providers[0] == "cpu":
        return "onnx runs on it with a provider for it, such as PROMPTIR_ONNX_PROVIDERS=cuda,cpu"
    return None


KIND = BackendKind(
    name="onnx",
    new=OnnxBackend,
    devices=f"{CPU}|{CUDA}",
    devices_in_words="cpu, cpu:N or cuda:N",
    default_device=default_device,
    settings_type=OnnxSettings,
    device_fault=device_fault,
    check_artifact=check_artifact,
    platform="onnxruntime_onnx",
)
