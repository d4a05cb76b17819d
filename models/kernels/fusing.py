"""Replacement of a network's blocks by fused ones, after a check on the device that they compute the same."""

import copy
import logging

import torch
from torch import nn

from models.kernels.modules import FusedNAFBlock, FusedTransformerBlock
from models.kernels.operators import WIDEST_TILE
from models.layers import GDFN, TransformerBlock
from models.naf import NAFBlock
from models.restoration import IMAGE_CHANNELS, RestorationNetwork

WIDTH_MULTIPLE = 16
"""Rows of a multiple of 16 half-precision numbers begin at addresses that the kernels can load 16 bytes from."""
LOWEST_PSNR_DB = 50.0
LARGEST_WEIGHT_ERROR = 0.02
"""Bounds of the check, as for an exported mixed model."""
SMALLEST_ERROR = 1e-20
"""Mean square error that counts as none: 200 dB."""
CHECKED_SIZES = ((24, 40), (16, 8))
"""Height and width of the images of the check, which share a batch: no multiple of any tile."""

logger = logging.getLogger(__name__)


def fused(network: RestorationNetwork) -> RestorationNetwork:
    """Return a copy of a half-precision `network` with fused blocks, which shares its parameters.

    Names in the state dict stay the same. Feed-forward widths are padded to a multiple of 16, as `aligned` pads to 8.
    Blocks wider than the kernels allow stay as they are.
    """
    shared = {id(parameter): parameter for parameter in network.parameters()}
    network = copy.deepcopy(network, shared)
    for module in list(network.modules()):
        if isinstance(module, GDFN) and module.hidden % WIDTH_MULTIPLE:
            module.pad_hidden(WIDTH_MULTIPLE)
        for name, child in module.named_children():
            if (replacement := _replacement(child)) is not None:
                setattr(module, name, replacement)
    return network


def _replacement(block: nn.Module) -> nn.Module | None:
    if isinstance(block, TransformerBlock):
        return FusedTransformerBlock(block)
    if isinstance(block, NAFBlock) and block.channels <= WIDEST_TILE:
        return FusedNAFBlock(block)
    return None


def checked(network: RestorationNetwork, device: torch.device) -> RestorationNetwork:
    """Return the fused form of `network` if its outputs on `device` agree with the network's own, else `network`.

    Both plain and mixed-size batches are compared. The kernels are compiled on the way, which takes a minute the first
    time; Triton keeps them on disk.
    """
    try:
        candidate = fused(network)
        psnr_db, weight_error = agreement(network, candidate, device)
    except Exception as error:  # compilers and drivers raise errors of many kinds, and eager PyTorch needs none of them
        logger.warning("fused kernels cannot be used, PyTorch's own are: %s: %s", type(error).__name__, error)
        return network
    if not (psnr_db >= LOWEST_PSNR_DB and weight_error <= LARGEST_WEIGHT_ERROR):  # written so that NaN fails
        logger.warning(
            "fused kernels are wrong on this device (%.1f dB, prompt weights off by %.2g), PyTorch's own are used",
            psnr_db,
            weight_error,
        )
        return network
    logger.info("fused kernels are used; they agree with PyTorch's own (%.1f dB)", psnr_db)
    return candidate


@torch.inference_mode()
def agreement(first: RestorationNetwork, second: RestorationNetwork, device: torch.device) -> tuple[float, float]:
    """Return the worst PSNR in dB between the networks' outputs, and the largest difference of a prompt weight.

    Both are NaN if an output is not finite.
    """
    height, width = CHECKED_SIZES[0]
    shape = (len(CHECKED_SIZES), IMAGE_CHANNELS, height, width)
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    image = image.to(device).contiguous(memory_format=torch.channels_last)
    heights, widths = (torch.tensor(sides, device=device) for sides in zip(*CHECKED_SIZES, strict=True))
    errors, weight_errors = [], [torch.zeros((), device=device)]
    for sizes in ((), (heights, widths)):
        one, other = first.outputs(image, *sizes), second.outputs(image, *sizes)
        squares = (one.restored - other.restored).square()
        for index, (rows, columns) in enumerate(CHECKED_SIZES if sizes else [CHECKED_SIZES[0]] * len(CHECKED_SIZES)):
            errors.append(squares[index, :, :rows, :columns].mean())
        if one.prompt_weights is not None and other.prompt_weights is not None:
            weight_errors.append((one.prompt_weights - other.prompt_weights).abs().max())
    worst = torch.stack(errors).max()  # which lets NaN through, as Python's own would not
    return float(-10 * torch.log10(worst.clamp_min(SMALLEST_ERROR))), float(torch.stack(weight_errors).max())
