"""Fused GPU kernels in the Triton language, for networks in half precision (extra `fused`)."""

import logging

import torch

from models.restoration import RestorationNetwork

logger = logging.getLogger(__name__)


def accelerate(network: RestorationNetwork, device: torch.device) -> RestorationNetwork:
    """Return `network` with fused kernels if they are installed, apply to it and pass a check on `device`, else itself.

    `network` must be on `device`, in the half-precision form without float32 copies (`to_mixed`). Never raises: the log
    says why a network stays as it is.
    """
    dtypes = {parameter.dtype for parameter in network.parameters()}
    if torch.float16 not in dtypes:
        logger.info("fused kernels are for float16 networks, and this one has none of it")
        return network
    try:
        import triton
    except ImportError:
        logger.info("fused kernels need Triton, which is not installed (extra `fused`)")
        return network
    if device.type != "cuda" and not triton.knobs.runtime.interpret:
        logger.info("fused kernels need an NVIDIA GPU, not %s", device.type)
        return network
    from models.kernels.fusing import checked

    return checked(network, device)
