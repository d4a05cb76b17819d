"""The installed PyTorch: its import, whether it can use a GPU, and the precision of its sums."""

import warnings
from typing import Any

from server.errors import BackendUnavailable


def import_torch() -> Any:
    """Import torch; raises BackendUnavailable, which says how to install it."""
    try:
        import safetensors  # noqa: F401 - the weights are read with it
        import torch
    except ImportError as error:
        raise BackendUnavailable(
            f"torch is not installed or does not load here ({error}): install this package with the extra `pytorch`"
        ) from error
    return torch


def check_cuda(torch: Any, index: int) -> None:
    """Raise BackendUnavailable, with what is missing, if this torch cannot use `cuda:<index>`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an old driver, which the error below says as well
        usable = torch.cuda.is_available()
    if usable:
        if index >= (count := torch.cuda.device_count()):
            raise BackendUnavailable(f"there is no cuda:{index}: the last of this machine's GPUs is cuda:{count - 1}")
        return
    if torch.version.cuda is None:
        raise BackendUnavailable(
            f"the installed torch {torch.__version__} has no CUDA: install a build with CUDA, or set the device to cpu"
        )
    raise BackendUnavailable(
        f"torch {torch.__version__} finds no usable NVIDIA GPU or driver for CUDA {torch.version.cuda}: "
        "check with nvidia-smi, or set the device to cpu"
    )


def keep_sums_exact(torch: Any) -> None:
    """Make FP32 mean FP32 on CUDA, and sum the products of FP16 and BF16 in FP32 throughout.

    FP32 is the reference, and TF32 would round it to ten bits. Attention of the paper's network multiplies over all
    pixels of an image: partial sums of 262 144 terms in FP16 would lose most of them.
    """
    torch.backends.cudnn.allow_tf32 = False
    matmul = torch.backends.cuda.matmul
    matmul.allow_tf32 = False
    matmul.allow_fp16_reduced_precision_reduction = False
    matmul.allow_bf16_reduced_precision_reduction = False
