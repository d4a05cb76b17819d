"""The TensorRT library: whichever of its two flavours is installed."""

from typing import Any

from models.tensorrt_faults import import_fault


class TensorRTUnavailable(ValueError):  # noqa: N818 - named for what happened, like the server's errors
    """A machine that TensorRT does not load on; the message is one sentence for a user."""


def load_tensorrt() -> Any:
    """The module `tensorrt`, or `tensorrt_rtx` where that is not installed; `TensorRTUnavailable` without either.

    An Enterprise installation that is there but broken is an error: its user did not ask for a plan of the other
    library, which no Enterprise runtime reads.
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
    """Whether plans of this library run on every GPU it supports: TensorRT-RTX makes kernels where a plan is loaded."""
    return hasattr(trt, "ComputeCapability")
