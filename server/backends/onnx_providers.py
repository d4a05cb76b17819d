"""The execution providers of ONNX Runtime: whether they are installed, and the options they run with."""

from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from server.backends.cuda_device import open_device
from server.errors import BackendUnavailable

Provider = Literal["tensorrt", "cuda", "cpu"]

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
PROVIDER_NAMES: dict[Provider, str] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}


def import_onnxruntime() -> Any:
    """Import the library; raises BackendUnavailable, which says how to install it or which distributions conflict."""
    installed = [name for name in DISTRIBUTIONS if _is_installed(name)]
    if len(installed) > 1:
        raise BackendUnavailable(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: "
            "uninstall both, then install this package with exactly one of the extras `cpu` and `gpu`"
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendUnavailable(
            "onnxruntime is not installed or does not load here "
            f"({error}): install this package with the extra `cpu`, or `gpu` for an NVIDIA device"
        ) from error
    return onnxruntime


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def check_available(ort: Any, providers: tuple[Provider, ...]) -> None:
    """Raise BackendUnavailable for a provider that the installed library was built without."""
    available = ort.get_available_providers()
    for provider in providers:
        if PROVIDER_NAMES[provider] not in available:
            raise BackendUnavailable(
                f"this onnxruntime {ort.__version__} has no provider {provider}: install this package with the extra "
                "`gpu` instead of `cpu`, or leave it out of the providers"
            )


def load_cuda_libraries(ort: Any, providers: tuple[Provider, ...]) -> None:
    """Load the CUDA libraries of NVIDIA's wheels, if installed: the providers do not find them by themselves."""
    if providers != ("cpu",) and hasattr(ort, "preload_dlls"):  # since 1.21
        ort.preload_dlls()


def provider_options(provider: Provider, engines: Path, onnx_sha256: str, version: str, index: int) -> dict[str, str]:
    """Return the options of a provider on one device; TensorRT keeps what it builds in a folder under `engines`."""
    if provider == "cuda":
        return {
            "device_id": str(index),
            "use_tf32": "0",  # FP32 means FP32 here; what may be rounded is in the artifact
            "cudnn_conv_algo_search": "HEURISTIC",  # the exhaustive default searches anew for each size of a photo
            "arena_extend_strategy": "kSameAsRequested",  # powers of two would waste up to half of the device
        }
    if provider == "tensorrt":
        folder = engines / engine_key(open_device(index).name, version, onnx_sha256)
        if index:  # two sessions would write the same files
            folder = folder / f"cuda-{index}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BackendUnavailable(
                f"engines cannot be kept in {folder} ({error.strerror}): set a cache folder that can be written"
            ) from error
        # No FP16 flag: it would allow this library to round sums that must stay in FP32, without telling.
        return {
            "device_id": str(index),
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }
    return {}


def engine_key(device: str, version: str, onnx_sha256: str) -> str:
    """Name the folder for the engines of one device, onnxruntime version and ONNX file; safe as a file name."""
    plain = "".join(character if character.isalnum() else "-" for character in device.lower())
    return f"{plain}-ort{version}-{onnx_sha256[:16]}"
