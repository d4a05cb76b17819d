"""Import of the installed TensorRT library, Enterprise TensorRT or TensorRT-RTX."""

from typing import Any

from models.tensorrt_faults import import_fault


class TensorRTUnavailable(ValueError):  # noqa: N818 - named for what happened, like the server's errors
    """Machine without a working TensorRT; the message is one sentence for a user."""


def load_tensorrt() -> Any:
    """Import `tensorrt`, or `tensorrt_rtx` if that is not installed; raise `TensorRTUnavailable` if neither is.

    A broken Enterprise installation is an error: its user expects a plan for that library, and neither library reads
    plans of the other.
    """
    try:
        try:
            import tensorrt
        except ModuleNotFoundError as error:
            if error.name != "tensorrt":
                raise
            import tensorrt_rtx as tensorrt
    except ImportError as error:
        raise TensorRTUnavailable(import_fault(error)) from error
    return tensorrt


def makes_portable_plans(trt: Any) -> bool:
    """Return whether plans run on every supported GPU, as for TensorRT-RTX, which compiles kernels at load time."""
    return hasattr(trt, "ComputeCapability")
