"""Conversion of a trained network for deployment: aligned widths, in float32 or mixed precision."""

import copy
from collections.abc import Iterator

import torch
from torch import nn

from models.layers import GDFN, MDTA, LayerNorm2d
from models.restoration import RestorationNetwork

WIDTH_MULTIPLE = 8
"""Half-precision matrix units read rows of eight; published widths, such as 127 or 255, are not multiples of it."""

MIXED_DTYPES = (torch.float16, torch.bfloat16)


def aligned(network: RestorationNetwork) -> RestorationNetwork:
    """Return a copy of `network` with feed-forward widths padded to a multiple of 8, computing the same function."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, GDFN):
            module.pad_hidden(WIDTH_MULTIPLE)
    return network


def to_float32(network: RestorationNetwork) -> RestorationNetwork:
    """Return an aligned float32 copy of `network` that merges each attention's output projection into its matrix.

    As accurate as the layers one by one, and TensorRT-RTX builds this graph but not the other one.
    """
    network = aligned(network)
    for module in network.modules():
        if isinstance(module, MDTA):
            module.merges_projection = True
    return network


def to_mixed(
    network: RestorationNetwork, dtype: torch.dtype = torch.float16, *, wide_copies: bool = True
) -> RestorationNetwork:
    """Return an aligned copy of `network` that computes in `dtype`, except for the float32 parts of its forward pass.

    Images stay float32, as do parameters used only in the float32 parts: LayerNorm weights and temperatures. Without
    `wide_copies`, for PyTorch on a GPU, features are never copied to float32: operators accumulate in it internally,
    and only temperatures stay float32. Raises `ValueError` if `dtype` is not a half-precision type.
    """
    if dtype not in MIXED_DTYPES:
        raise ValueError(f"mixed precision is float16 or bfloat16, not {dtype}")
    network = aligned(network)
    for module in network.modules():
        if isinstance(module, LayerNorm2d | MDTA):
            module.wide_copies = wide_copies
    island_parameters = {id(parameter) for parameter in _island_parameters(network)}
    for parameter in network.parameters():
        if id(parameter) not in island_parameters:
            parameter.data = parameter.data.to(dtype)
    return network


def _island_parameters(network: RestorationNetwork) -> Iterator[nn.Parameter]:
    for module in network.modules():
        if isinstance(module, LayerNorm2d) and module.wide_copies:
            yield from module.parameters()
        elif isinstance(module, MDTA):
            yield module.temperature
