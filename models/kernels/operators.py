"""PyTorch operators around the Triton kernels: check, allocate and launch.

Features are (N, H, W, C), contiguous unless said otherwise, all of one half-precision type. `valid` is the mask
(N, 1, H, W) of `models/validity.py`, or None. On the meta device the operators only infer shapes, which is how their
memory traffic is counted.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from models.kernels import attention, depthwise, pointwise

SMALLEST_TILE = 16
"""Matrix units multiply tiles of at least this side."""
WIDEST_TILE = 256
"""Most channels that one program holds; wider features are read in several tiles."""
ATTENTION_TILE = 128
GRAM_PROGRAMS = 256
"""Number of programs to split a Gram matrix into: about two for each multiprocessor of a large GPU."""
GRAM_BLOCK, FEWEST_GRAM_BLOCKS = 32, 8
"""Pixels read at a time for a Gram matrix, and fewest such blocks worth a partial sum of their own."""
GATE_BLOCK = 32
ROW_BLOCK = 16
NEIGHBOURHOOD_WARPS = 8
"""A 3x3 neighbourhood of two blocks takes 18 loads; with this many warps each thread keeps 16 bytes of each."""
UNPIPELINED = 1
"""Number of stages of loops whose loads would not fit the shared memory of a small GPU several times."""


def tile(channels: int, most: int = WIDEST_TILE) -> int:
    """Return the side of a tile that holds `channels`, a power of two from 16 to `most`."""
    return max(SMALLEST_TILE, min(triton.next_power_of_2(channels), most))


def warps(width: int) -> int:
    """Return the number of warps that share a tile of `width` channels, so that it fits their registers."""
    return 4 if width < WIDEST_TILE // 2 else 8


def gram_splits(images: int, pixels: int, heads: int, size: int) -> int:
    """Return the number of partial sums that the Gram matrices of an image are computed in."""
    tiles = triton.cdiv(size, ATTENTION_TILE) ** 2
    blocks = triton.cdiv(pixels, GRAM_BLOCK)
    return max(1, min(GRAM_PROGRAMS // (images * heads * tiles), blocks // FEWEST_GRAM_BLOCKS))


def _launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Launch on the device of the first tensor, which need not be the current one."""
    with torch.cuda.device_of(arguments[0]):  # type: ignore[no-untyped-call]
        kernel[grid](*arguments, **options)


def _row(weight: Tensor) -> Tensor:
    """Return the weight of a convolution as contiguous rows, one for each output channel."""
    return weight.flatten(1).contiguous()


@torch.library.custom_op("promptir::norm_project", mutates_args=())
def norm_project(x: Tensor, gain: Tensor, bias: Tensor, weight: Tensor, valid: Tensor | None, epsilon: float) -> Tensor:
    """LayerNorm and 1x1 convolution: (N, H, W, C) -> (N, H, W, outputs); `weight` is (outputs, C, 1, 1)."""
    channels, outputs = x.shape[-1], weight.shape[0]
    y = x.new_empty((*x.shape[:-1], outputs))
    pixels, whole = x.numel() // channels, channels <= WIDEST_TILE
    block, side = (64, tile(channels)) if whole else (64, 64)
    width = tile(outputs, 64)
    grid = (triton.cdiv(pixels, block) * triton.cdiv(outputs, width),)
    _launch(
        pointwise.norm_project, grid, x, gain, bias, _row(weight), x if valid is None else valid, y, pixels, channels,
        outputs, EPSILON=epsilon, MASKED=valid is not None, WHOLE=whole, BM=block, BN=width, BK=side,
        num_warps=warps(side),
    )  # fmt: skip
    return y


@norm_project.register_fake
def _(x: Tensor, gain: Tensor, bias: Tensor, weight: Tensor, valid: Tensor | None, epsilon: float) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


@torch.library.custom_op("promptir::project_add", mutates_args=())
def project_add(x: Tensor, matrix: Tensor, residual: Tensor) -> Tensor:
    """1x1 convolution of (N, H, W, C) and sum; `matrix` is (outputs, C, 1, 1), or one (outputs, C) for each image."""
    images, height, width, channels = x.shape
    outputs, of_images = residual.shape[-1], matrix.dim() == 3
    rows = matrix.contiguous() if of_images else _row(matrix)
    y = torch.empty_like(residual)
    columns = tile(outputs, 64)
    grid = (images * triton.cdiv(height * width, 64) * triton.cdiv(outputs, columns),)
    _launch(
        pointwise.project_add, grid, x, rows, residual, y, height * width, channels, outputs,
        rows.stride(0) if of_images else 0, BM=64, BN=columns, BK=tile(channels, 64), num_warps=4,
    )  # fmt: skip
    return y


@project_add.register_fake
def _(x: Tensor, matrix: Tensor, residual: Tensor) -> Tensor:
    return torch.empty_like(residual)


@torch.library.custom_op("promptir::gated_feed_forward", mutates_args=())
def gated_feed_forward(x: Tensor, gain: Tensor, bias: Tensor, expand: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """LayerNorm, NAF's feed-forward network and residual of (N, H, W, C), C at most `WIDEST_TILE`."""
    channels = x.shape[-1]
    y, width = torch.empty_like(x), tile(channels)
    pixels, block = x.numel() // channels, 64 if width < WIDEST_TILE else 32
    _launch(
        pointwise.gated_feed_forward, (triton.cdiv(pixels, block),), x, gain, bias, _row(expand), _row(weight), y,
        pixels, channels, EPSILON=epsilon, BM=block, BC=width, BK=min(width, 32), num_warps=warps(width),
        num_stages=UNPIPELINED,
    )  # fmt: skip
    return y


@gated_feed_forward.register_fake
def _(x: Tensor, gain: Tensor, bias: Tensor, expand: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("promptir::depthwise", mutates_args=())
def depthwise_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """Depthwise 3x3 convolution of (N, H, W, C), which may be some channels of wider features; weight (C, 1, 3, 3)."""
    images, height, width, channels = x.shape
    y = x.new_empty(x.shape)
    columns = tile(channels, 64)
    grid = (images * triton.cdiv(height * width, GATE_BLOCK) * triton.cdiv(channels, columns),)
    _launch(
        depthwise.depthwise, grid, x, _row(weight), y, height, width, channels, x.stride(2), BP=GATE_BLOCK,
        BC=columns, num_warps=NEIGHBOURHOOD_WARPS,
    )  # fmt: skip
    return y


@depthwise_convolution.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("promptir::gate", mutates_args=())
def gate(x: Tensor, weight: Tensor, valid: Tensor | None, gelu: bool, pooled: bool) -> tuple[Tensor, Tensor]:
    """Depthwise 3x3 convolution and gate: (N, H, W, 2C) -> (N, H, W, C), and block sums (N, blocks, C) if `pooled`."""
    images, height, width, hidden = *x.shape[:-1], x.shape[-1] // 2
    y, sums = _gate_outputs(x, pooled)
    columns = tile(hidden, 64)
    grid = (images * triton.cdiv(height * width, GATE_BLOCK) * triton.cdiv(hidden, columns),)
    _launch(
        depthwise.gate, grid, x, _row(weight), x if valid is None else valid, y, sums, height, width, hidden,
        GELU=gelu, POOLED=pooled, MASKED=valid is not None, BP=GATE_BLOCK, BC=columns,
        num_warps=NEIGHBOURHOOD_WARPS,
    )  # fmt: skip
    return y, sums


@gate.register_fake
def _(x: Tensor, weight: Tensor, valid: Tensor | None, gelu: bool, pooled: bool) -> tuple[Tensor, Tensor]:
    return _gate_outputs(x, pooled)


def _gate_outputs(x: Tensor, pooled: bool) -> tuple[Tensor, Tensor]:
    images, height, width, channels = x.shape
    blocks = triton.cdiv(height * width, GATE_BLOCK) if pooled else 0
    y = x.new_empty((images, height, width, channels // 2))
    return y, x.new_empty((images, blocks, channels // 2), dtype=torch.float32)


@torch.library.custom_op("promptir::gate_project_add", mutates_args=())
def gate_project_add(x: Tensor, weight: Tensor, matrix: Tensor, residual: Tensor) -> Tensor:
    """Second part of GDFN, after its first 1x1 convolution; `residual` has at most `WIDEST_TILE` channels."""
    images, height, width, hidden = *x.shape[:-1], x.shape[-1] // 2
    y, outputs = torch.empty_like(residual), residual.shape[-1]
    side = tile(outputs)
    block = 64 if side < WIDEST_TILE else 32
    _launch(
        depthwise.gate_project_add, (images * triton.cdiv(height * width, block),), x, _row(weight), _row(matrix),
        residual, y, height, width, hidden, outputs, BP=block, BN=side, BK=32,
        num_warps=NEIGHBOURHOOD_WARPS, num_stages=UNPIPELINED,
    )  # fmt: skip
    return y


@gate_project_add.register_fake
def _(x: Tensor, weight: Tensor, matrix: Tensor, residual: Tensor) -> Tensor:
    return torch.empty_like(residual)


@torch.library.custom_op("promptir::channel_gram", mutates_args=())
def channel_gram(x: Tensor, weight: Tensor, valid: Tensor | None, heads: int) -> tuple[Tensor, Tensor]:
    """Depthwise 3x3 convolution of q and k, (N, H, W, 2C) of wider features, and their products and squared lengths.

    Returns partial sums, (N, splits, heads, C / heads, C / heads) and (N, splits, 2, C), both float32.
    """
    images, height, width, channels = *x.shape[:-1], x.shape[-1] // 2
    size = channels // heads
    gram, squares = _gram_outputs(x, heads)
    side, splits = tile(size, ATTENTION_TILE), gram.shape[1]
    _launch(
        attention.channel_gram, (images * splits, heads, triton.cdiv(size, side) ** 2), x, _row(weight),
        x if valid is None else valid, gram, squares, height, width, channels, size, x.stride(2), splits,
        MASKED=valid is not None, BP=GRAM_BLOCK if side < ATTENTION_TILE else GRAM_BLOCK // 2, BC=side,
        num_warps=NEIGHBOURHOOD_WARPS, num_stages=UNPIPELINED,
    )  # fmt: skip
    return gram, squares


@channel_gram.register_fake
def _(x: Tensor, weight: Tensor, valid: Tensor | None, heads: int) -> tuple[Tensor, Tensor]:
    return _gram_outputs(x, heads)


def _gram_outputs(x: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    images, height, width, channels = *x.shape[:-1], x.shape[-1] // 2
    size = channels // heads
    splits = gram_splits(images, height * width, heads, size)
    gram = x.new_empty((images, splits, heads, size, size), dtype=torch.float32)
    return gram, x.new_empty((images, splits, 2, channels), dtype=torch.float32)


@torch.library.custom_op("promptir::attention_map", mutates_args=())
def attention_map(gram: Tensor, squares: Tensor, temperature: Tensor, dtype: torch.dtype, epsilon: float) -> Tensor:
    """Softmax of the normalised sums of `channel_gram`: (N, heads, c, c), of `dtype`."""
    images, splits, heads, size, _ = gram.shape
    result = gram.new_empty((images, heads, size, size), dtype=dtype)
    _launch(
        attention.attention_map, (images, heads, triton.cdiv(size, ROW_BLOCK)), gram, squares, temperature, result,
        heads * size, size, splits, EPSILON=epsilon, BI=ROW_BLOCK, BC=tile(size), num_warps=4,
    )  # fmt: skip
    return result


@attention_map.register_fake
def _(gram: Tensor, squares: Tensor, temperature: Tensor, dtype: torch.dtype, epsilon: float) -> Tensor:
    images, _, heads, size, _ = gram.shape
    return gram.new_empty((images, heads, size, size), dtype=dtype)


@torch.library.custom_op("promptir::scaled_projection", mutates_args=())
def scaled_projection(
    sums: Tensor, areas: Tensor | None, pixels: int, linear: Tensor, bias: Tensor, projection: Tensor
) -> Tensor:
    """NAF's channel attention: matrices (N, C, C) for `project_add`, from the block sums of `gate`.

    The sums (N, blocks, C) cover `pixels` pixels, or as many as `areas` (N,) float32 says of each image.
    """
    images, blocks, channels = sums.shape
    matrix = projection.new_empty((images, channels, channels))
    _launch(
        attention.scaled_projection, (images,), sums, sums if areas is None else areas, linear, bias,
        _row(projection), matrix, blocks, pixels, channels, MASKED=areas is not None, BR=32, BO=ROW_BLOCK,
        BC=tile(channels), num_warps=warps(tile(channels)),
    )  # fmt: skip
    return matrix


@scaled_projection.register_fake
def _(sums: Tensor, areas: Tensor | None, pixels: int, linear: Tensor, bias: Tensor, projection: Tensor) -> Tensor:
    return projection.new_empty((sums.shape[0], sums.shape[2], sums.shape[2]))
