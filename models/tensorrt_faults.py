"""One-sentence explanations of TensorRT exceptions and log lines for operators.

Does not import TensorRT, so that export and server can share it.
"""

import re
from collections.abc import Iterable, Sequence

CUDA_ERROR = re.compile(r"(?:cudaError|CUDA (?:initialization failure with )?error:?|Cuda failure:?)\s*(\d+)", re.I)
DRIVER_TOO_OLD = 35
NO_DEVICE = 100
UNUSABLE_DEVICE_CODES = frozenset({DRIVER_TOO_OLD, NO_DEVICE})

NOT_INSTALLED = (
    "TensorRT is not installed; install the package tensorrt for an NVIDIA data-centre or workstation GPU, "
    "or tensorrt-rtx for an RTX GPU"
)
NO_USABLE_DEVICE = (
    "no usable NVIDIA GPU or driver on this machine; check with nvidia-smi, or use an ONNX artifact on the CPU"
)
UNREADABLE_PLAN = "TensorRT cannot read the plan; it was built for another version or device, or is damaged"


def import_fault(error: ImportError) -> str:
    """Explain why neither `tensorrt` nor `tensorrt_rtx` could be imported: not installed, or libraries missing."""
    if isinstance(error, ModuleNotFoundError):
        return NOT_INSTALLED
    return f"TensorRT is installed but its libraries do not load ({error}); install them or extend LD_LIBRARY_PATH"


def creation_fault(error: TypeError) -> str:
    """Explain why a `Builder` or `Runtime` could not be created.

    Without a driver the library returns null, which the bindings report as a TypeError; no other TypeError is possible
    with well-typed arguments.
    """
    return f"{NO_USABLE_DEVICE} (TensorRT could not start: {error})"


def device_fault(log: Iterable[str]) -> str | None:
    """Return an explanation if the log shows that CUDA found no usable device or driver, else None."""
    codes = {int(code) for line in log for code in CUDA_ERROR.findall(line)}
    unusable = sorted(codes & UNUSABLE_DEVICE_CODES)
    return f"{NO_USABLE_DEVICE} (CUDA error {unusable[0]})" if unusable else None


def plan_fault(log: Sequence[str]) -> str:
    """Explain why deserialising a plan returned None, from the library's log."""
    return device_fault(log) or f"{UNREADABLE_PLAN}; it said: {'; '.join(log) or 'nothing'}"
