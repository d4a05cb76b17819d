"""TensorRT faults: what the library's exceptions and log lines mean to an operator, in one sentence each.

It imports no TensorRT, so that the export and the server can share it.
"""

import re
from collections.abc import Iterable, Sequence

CUDA_ERROR = re.compile(r"(?:cudaError|CUDA (?:initialization failure with )?error:?|Cuda failure:?)\s*(\d+)", re.I)
DRIVER_TOO_OLD = 35
NO_DEVICE = 100
UNUSABLE_DEVICE_CODES = frozenset({DRIVER_TOO_OLD, NO_DEVICE})

NOT_INSTALLED = (
    "TensorRT is not installed; install the package tensorrt for an NVIDIA data-centre or workstation GPU, "
    "or tensorrt-rtx for an RTX one"
)
NO_USABLE_DEVICE = (
    "no usable NVIDIA GPU or driver on this machine; check with nvidia-smi, or use an ONNX artifact on the CPU"
)
UNREADABLE_PLAN = "TensorRT cannot read the plan; it was built for another version or device, or is damaged"


def import_fault(error: ImportError) -> str:
    """Why `import tensorrt` and `import tensorrt_rtx` failed: nothing is installed, or its libraries are missing."""
    if isinstance(error, ModuleNotFoundError):
        return NOT_INSTALLED
    return f"TensorRT is installed but its libraries do not load ({error}); install them or extend LD_LIBRARY_PATH"


def creation_fault(error: TypeError) -> str:
    """Why creating a `Builder` or a `Runtime` failed.

    Without a driver the library answers null, which the bindings turn into a TypeError; well-typed arguments give no
    other one.
    """
    return f"{NO_USABLE_DEVICE} (TensorRT could not start: {error})"


def device_fault(log: Iterable[str]) -> str | None:
    """The sentence for a log in which CUDA reports no usable device or driver, None for any other log."""
    codes = {int(code) for line in log for code in CUDA_ERROR.findall(line)}
    unusable = sorted(codes & UNUSABLE_DEVICE_CODES)
    return f"{NO_USABLE_DEVICE} (CUDA error {unusable[0]})" if unusable else None


def plan_fault(log: Sequence[str]) -> str:
    """Why deserialising a plan answered None, judged by what the library logged meanwhile."""
    return device_fault(log) or f"{UNREADABLE_PLAN}; it said: {'; '.join(log) or 'nothing'}"
