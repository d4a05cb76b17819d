"""Runs every fused kernel in Triton's interpreter and prints its error against PyTorch, a line of JSON each.

A program of its own, because Triton must know that it interprets before it is imported: TRITON_INTERPRET=1.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from models.kernels import accelerate, fusing, operators
from models.kernels.modules import FusedNAFBlock, FusedTransformerBlock
from models.layers import L2_NORM_EPSILON, LayerNorm2d, TransformerBlock
from models.naf import NAFBlock, PromptNAF, PromptNAFConfig
from models.precision import to_mixed
from models.restoration import channels_last
from models.validity import Validity

EPSILON = LayerNorm2d.EPSILON
CASES: dict[str, Callable[[], Iterator[tuple[Tensor, Tensor]]]] = {}


def case(
    function: Callable[[], Iterator[tuple[Tensor, Tensor]]],
) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    CASES[function.__name__] = function
    return function


def half(*shape: int) -> Tensor:
    return torch.randn(shape).half()


def mask(images: int, height: int, width: int) -> Tensor:
    """A mask of rectangles in the top left corner, a smaller one for each image."""
    kept = torch.zeros(images, 1, height, width)
    for index in range(images):
        kept[index, :, : height - index, : width - 2 * index] = 1
    return kept.half()


def planes(x: Tensor) -> Tensor:
    return x.double().permute(0, 3, 1, 2)


def rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def convolved(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(planes(x), weight.double(), padding=weight.shape[-1] // 2, groups=weight.shape[0])


def normal(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x.double(), x.shape[-1:], gain.double(), bias.double(), EPSILON)


@case
def norm_project() -> Iterator[tuple[Tensor, Tensor]]:
    for images, height, width, channels, outputs, masked in (
        (2, 5, 7, 48, 144, True), (1, 3, 3, 8, 24, False), (1, 3, 5, 272, 40, True),
    ):  # fmt: skip
        x, gain, bias, weight = half(images, height, width, channels) * 3 + 1, half(channels), half(channels), None
        weight = half(outputs, channels, 1, 1) / channels**0.5
        valid = mask(images, height, width) if masked else None
        expected = normal(x, gain, bias) @ weight[:, :, 0, 0].double().T
        yield (
            operators.norm_project(x, gain, bias, weight, valid, EPSILON),
            expected if valid is None else expected * rows(valid.double()),
        )


@case
def project_add() -> Iterator[tuple[Tensor, Tensor]]:
    x, residual = half(2, 5, 7, 72), half(2, 5, 7, 24)
    shared, own = half(24, 72, 1, 1) / 8, half(2, 24, 72) / 8
    yield operators.project_add(x, shared, residual), x.double() @ shared[:, :, 0, 0].double().T + residual
    yield operators.project_add(x, own, residual), torch.einsum("nhwc,noc->nhwo", x.double(), own.double()) + residual


@case
def gated_feed_forward() -> Iterator[tuple[Tensor, Tensor]]:
    for channels in (8, 40):
        x, gain, bias = half(2, 5, 7, channels), half(channels), half(channels)
        expand, weight = half(2 * channels, channels, 1, 1) / channels**0.5, half(channels, channels, 1, 1) / 8
        gate, value = (normal(x, gain, bias) @ expand[:, :, 0, 0].double().T).chunk(2, dim=-1)
        yield (
            operators.gated_feed_forward(x, gain, bias, expand, weight, EPSILON),
            x + (gate * value) @ weight[:, :, 0, 0].double().T,
        )


@case
def depthwise_convolution() -> Iterator[tuple[Tensor, Tensor]]:
    wide, weight = half(2, 5, 7, 72), half(24, 1, 3, 3)
    yield operators.depthwise_convolution(wide[..., 48:], weight), rows(convolved(wide[..., 48:], weight))


@case
def gate() -> Iterator[tuple[Tensor, Tensor]]:
    x, weight = half(2, 7, 11, 80), half(80, 1, 3, 3) / 2
    first, second = convolved(x, weight).chunk(2, dim=1)
    yield operators.gate(x, weight, None, True, False)[0], rows(F.gelu(first) * second)
    for valid in (None, mask(2, 7, 11)):
        gated, sums = operators.gate(x, weight, valid, False, True)
        yield gated, rows(first * second)
        kept = first * second if valid is None else first * second * valid
        yield sums.sum(dim=1), kept.sum(dim=(-2, -1))


@case
def gate_project_add() -> Iterator[tuple[Tensor, Tensor]]:
    for outputs, hidden in ((24, 40), (136, 16)):
        x, weight, residual = half(2, 5, 7, 2 * hidden), half(2 * hidden, 1, 3, 3) / 2, half(2, 5, 7, outputs)
        matrix = half(outputs, hidden, 1, 1) / 6
        first, second = convolved(x, weight).chunk(2, dim=1)
        hidden_rows = rows(F.gelu(first) * second)
        yield (
            operators.gate_project_add(x, weight, matrix, residual),
            residual + hidden_rows @ matrix[:, :, 0, 0].double().T,
        )


@case
def attention_between_channels() -> Iterator[tuple[Tensor, Tensor]]:
    # One image in two partial sums, two masked images, and a head of more channels than a tile.
    for images, height, width, channels, heads in ((1, 23, 23, 16, 2), (2, 5, 7, 48, 2), (1, 3, 5, 136, 1)):
        x, weight = half(images, height, width, 3 * channels)[..., : 2 * channels], half(2 * channels, 1, 3, 3) / 3
        valid = mask(images, height, width) if images > 1 else None
        temperature = torch.rand(heads, 1, 1) + 0.5
        gram, squares = operators.channel_gram(x, weight, valid, heads)
        found = operators.attention_map(gram, squares, temperature, torch.float32, L2_NORM_EPSILON)
        q, k = (convolved(x, weight) * (1 if valid is None else valid)).chunk(2, dim=1)
        q, k = (F.normalize(part.reshape(images, heads, channels // heads, -1), dim=-1) for part in (q, k))
        yield found, torch.softmax(q @ k.mT * temperature, dim=-1)


@case
def a_silent_query() -> Iterator[tuple[Tensor, Tensor]]:
    gram, squares = torch.zeros(1, 2, 1, 8, 8), torch.zeros(1, 2, 2, 8)
    found = operators.attention_map(gram, squares, torch.ones(1, 1, 1), torch.float16, L2_NORM_EPSILON)
    yield found, torch.full((1, 1, 8, 8), 1 / 8)


@case
def scaled_projection() -> Iterator[tuple[Tensor, Tensor]]:
    channels = 24
    sums, linear, bias = torch.randn(2, 37, channels) * 4, half(channels, channels) / 5, half(channels)
    projection = half(channels, channels, 1, 1)
    for areas in (None, torch.tensor([30.0, 90.0])):
        mean = sums.double().sum(dim=1) / (50 if areas is None else areas[:, None])
        weights = mean @ linear.double().T + bias
        found = operators.scaled_projection(sums, areas, 50, linear, bias, projection)
        yield found, projection[:, :, 0, 0].double() * weights[:, None]


@case
def transformer_block() -> Iterator[tuple[Tensor, Tensor]]:
    block = TransformerBlock(24, 2, 2.66)
    block.ffn.pad_hidden(fusing.WIDTH_MULTIPLE)
    yield from _block_errors(block, FusedTransformerBlock(block), 24)


@case
def naf_block() -> Iterator[tuple[Tensor, Tensor]]:
    block = NAFBlock(16)
    yield from _block_errors(block, FusedNAFBlock(block), 16)


def _block_errors(block: torch.nn.Module, fused: torch.nn.Module, channels: int) -> Iterator[tuple[Tensor, Tensor]]:
    for parameter in block.parameters():
        parameter.data = parameter.data.half().float()
    x = half(2, channels, 6, 10).contiguous(memory_format=torch.channels_last)
    sizes = torch.tensor([6, 4]), torch.tensor([10, 6])
    canvas = torch.empty(2, 3, 6, 10)
    plain = block(x.float())
    padded = block(x.float(), Validity.within(canvas, *sizes, torch.float32))
    block.half()
    yield fused(x), plain
    valid = Validity.within(canvas, *sizes, torch.float16)
    yield fused(x, valid) * valid.mask, padded * valid.mask


def accelerated() -> bool:
    """Accelerate a small network in the interpreter."""
    fusing.CHECKED_SIZES = ((8, 8), (8, 8))
    ones = (1, 1, 1)
    config = PromptNAFConfig(dim=8, encoder_blocks=ones, latent_blocks=1, decoder_blocks=ones, prompts=False)
    network = channels_last(to_mixed(PromptNAF(config).eval(), wide_copies=False))
    return isinstance(accelerate(network, torch.device("cpu")).encoder[0][0], FusedNAFBlock)


def main() -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        for name, function in CASES.items():
            error = max(
                float((found.double() - expected).norm() / expected.double().norm()) for found, expected in function()
            )
            print(json.dumps({name: error}), flush=True)
        print(json.dumps({"accelerated": accelerated()}))


if __name__ == "__main__":
    main()
