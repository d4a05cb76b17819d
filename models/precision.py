"""The deployed form of a trained network: aligned widths, in float32 or in mixed precision."""

import copy
from collections.abc import Iterator

import torch
from torch import nn

from models.layers import GDFN, MDTA, LayerNorm2d
from models.restoration import RestorationNetwork

WIDTH_MULTIPLE = 8
"""Half-precision matrix units read rows of eight; the published widths, such as 127 or 255, are not even even."""

MIXED_DTYPES = (torch.float16, torch.bfloat16)


def aligned(network: RestorationNetwork) -> RestorationNetwork:
    """A copy of `network` with every feed-forward width padded to a multiple of 8, which computes the same function."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, GDFN):
            module.pad_hidden(WIDTH_MULTIPLE)
    return network


def to_float32(network: RestorationNetwork) -> RestorationNetwork:
    """An aligned copy of `network` that multiplies the projection of each attention into its matrix, in float32.

    As accurate as the layers one by one, and TensorRT-RTX builds this graph but not the other one.
    """
    network = aligned(network)
    for module in network.modules():
        if isinstance(module, MDTA):
            module.merges_projection = True
    return network


def to_mixed(network: RestorationNetwork, dtype: torch.dtype = torch.float16) -> RestorationNetwork:
    """An aligned copy of `network` that computes in `dtype` but for the float32 islands in its forward pass.

    Images stay float32. What only islands read, the weights of LayerNorm and the temperatures, stays float32 too.
    `ValueError` for a `dtype` that is not a half-precision one.
    """
    if dtype not in MIXED_DTYPES:
        raise ValueError(f"mixed precision is float16 or bfloat16, not {dtype}")
    network = aligned(network)
    island_parameters = {id(parameter) for parameter in _island_parameters(network)}
    for parameter in network.parameters():
        if id(parameter) not in island_parameters:
            parameter.data = parameter.data.to(dtype)
    return network


def _island_parameters(network: RestorationNetwork) -> Iterator[nn.Parameter]:
    for module in network.modules():
        if isinstance(module, LayerNorm2d):
            yield from module.parameters()
        elif isinstance(module, MDTA):
            yield module.temperature
