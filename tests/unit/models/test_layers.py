"""Tests of the properties of the transformer's building blocks."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import GDFN, MDTA, Downsample, LayerNorm2d, TransformerBlock, Upsample, conv1x1, l2_normalise

EXACT = 1e-5
"""FP32 sums of a few thousand numbers in another order stay within this."""


@pytest.fixture(autouse=True)
def _seeded_without_gradients() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def pass_through(conv: nn.Conv2d) -> None:
    """Make a depthwise or square convolution the identity."""
    size = conv.kernel_size[0]
    conv.weight.zero_()
    if conv.groups == 1:
        conv.weight[:, :, size // 2, size // 2] = torch.eye(conv.out_channels)
    else:
        conv.weight[:, 0, size // 2, size // 2] = 1


def attention_alone(channels: int, heads: int) -> MDTA:
    """Build an MDTA with identity convolutions around the attention; only `qkv` is random."""
    mdta = MDTA(channels, heads)
    pass_through(mdta.qkv_dwconv)
    pass_through(mdta.project_out)
    return mdta


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=EXACT, rtol=0)


def test_layer_norm_gives_each_pixel_mean_zero_and_variance_one() -> None:
    normalised = LayerNorm2d(24)(torch.randn(2, 24, 5, 7) * 3 + 1)
    assert_close(normalised.mean(dim=1), torch.zeros(2, 5, 7))
    torch.testing.assert_close(normalised.var(dim=1, unbiased=False), torch.ones(2, 5, 7), atol=1e-4, rtol=0)


def test_layer_norm_applies_weight_and_bias_by_channel() -> None:
    norm = LayerNorm2d(6)
    x = torch.randn(1, 6, 4, 4)
    plain = norm(x)
    norm.body.weight.copy_(torch.arange(6.0))
    norm.body.bias.copy_(torch.arange(6.0) - 3)
    assert_close(norm(x), plain * torch.arange(6.0).view(1, 6, 1, 1) + (torch.arange(6.0) - 3).view(1, 6, 1, 1))


def test_layer_norm_looks_at_one_pixel_only() -> None:
    x = torch.randn(1, 8, 4, 4)
    changed = x.clone()
    changed[..., 2, 3] += torch.randn(8)
    difference = (LayerNorm2d(8)(x) - LayerNorm2d(8)(changed)).abs().amax(dim=1)[0]
    assert difference.nonzero().tolist() == [[2, 3]]


def test_l2_normalise_gives_rows_of_length_one() -> None:
    assert_close(l2_normalise(torch.randn(2, 3, 50) * 40).norm(dim=-1), torch.ones(2, 3))


def test_l2_normalise_keeps_a_zero_row_zero() -> None:
    assert torch.equal(l2_normalise(torch.zeros(1, 4)), torch.zeros(1, 4))


@pytest.mark.parametrize(("channels", "heads"), [(8, 1), (8, 2), (24, 4)])
def test_attention_keeps_the_shape(channels: int, heads: int) -> None:
    assert MDTA(channels, heads)(torch.randn(2, channels, 6, 10)).shape == (2, channels, 6, 10)


def test_attention_refuses_channels_that_heads_do_not_divide() -> None:
    with pytest.raises(ValueError, match="10 channels and 4 heads"):
        MDTA(10, 4)


def test_attention_rows_sum_to_one() -> None:
    mdta = attention_alone(8, 2)
    mdta.qkv.weight[16:] = 0
    mdta.qkv.weight[16:, 3] = 1  # every value channel is input channel 3, and so is any weighted mean of them
    x = torch.randn(2, 8, 6, 6)
    assert_close(mdta(x), x[:, 3:4].expand(-1, 8, -1, -1))


def test_temperature_zero_averages_the_values_of_each_head() -> None:
    mdta = attention_alone(8, 2)
    mdta.qkv.weight[16:] = torch.eye(8).view(8, 8, 1, 1)
    mdta.temperature.zero_()
    x = torch.randn(1, 8, 6, 6)
    means = x.view(1, 2, 4, 6, 6).mean(dim=2)
    assert_close(mdta(x), means.repeat_interleave(4, dim=1))


def test_attention_ignores_the_length_of_queries_and_keys() -> None:
    mdta = MDTA(8, 2)
    x = torch.randn(1, 8, 6, 6)
    before = mdta(x)
    mdta.qkv.weight[:16] *= 7
    assert_close(mdta(x), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_lengths_may_be_divided_by_in_the_map_even_where_the_raw_product_overflows(dtype: torch.dtype) -> None:
    pixels = 300 * 300
    q = torch.randn(1, 2, 3, pixels)
    k = q + torch.randn(1, 2, 3, pixels)
    assert (q @ k.transpose(-2, -1)).max() > torch.finfo(torch.float16).max
    found = MDTA(6, 2)._attention(q.to(dtype), k.to(dtype), postponed=True)
    expected = torch.softmax(F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1), dim=-1)
    torch.testing.assert_close(found.float(), expected, atol=EXACT if dtype is torch.float32 else 2e-3, rtol=0)


def test_a_row_of_zeros_attends_to_all_alike_when_lengths_are_divided_by_in_the_map() -> None:
    maps = MDTA(6, 2)._attention(torch.zeros(1, 2, 3, 64), torch.zeros(1, 2, 3, 64), postponed=True)
    assert_close(maps, torch.full((1, 2, 3, 3), 1 / 3))


def test_heads_do_not_mix_before_the_projection() -> None:
    mdta = attention_alone(8, 2)
    x = torch.randn(1, 8, 6, 6)
    before = mdta(x)
    mdta.qkv.weight[4:8] += 1  # queries of the second head
    after = mdta(x)
    assert_close(after[:, :4], before[:, :4])
    assert (after[:, 4:] - before[:, 4:]).abs().max() > EXACT


def test_attention_does_not_know_where_a_pixel_is() -> None:
    mdta = attention_alone(8, 2)
    x = torch.randn(1, 8, 4, 6)
    order = torch.randperm(24)

    def shuffle(image: Tensor) -> Tensor:
        return image.flatten(2)[..., order].view(1, 8, 4, 6)

    assert_close(mdta(shuffle(x)), shuffle(mdta(x)))


def test_every_output_pixel_depends_on_the_whole_image() -> None:
    mdta = attention_alone(8, 2)
    x = torch.randn(1, 8, 8, 8)
    changed = x.clone()
    changed[..., 0, 0] += 10
    assert ((mdta(x) - mdta(changed)).abs().amax(dim=1) > 0).all()


@pytest.mark.parametrize(("channels", "expansion", "hidden"), [(48, 2.66, 127), (96, 2.66, 255), (10, 2.0, 20)])
def test_feed_forward_hides_the_floor_of_the_expanded_width(channels: int, expansion: float, hidden: int) -> None:
    gdfn = GDFN(channels, expansion)
    assert gdfn.project_in.out_channels == 2 * hidden
    assert gdfn.project_out.in_channels == hidden
    assert gdfn(torch.randn(1, channels, 4, 6)).shape == (1, channels, 4, 6)


def test_the_first_half_gates_the_second() -> None:
    gdfn = GDFN(4, 1.0)
    for conv in (gdfn.dwconv, gdfn.project_out):
        pass_through(conv)
    x = torch.randn(1, 4, 5, 5)
    gate, value = gdfn.project_in(x).chunk(2, dim=1)
    assert_close(gdfn(x), F.gelu(gate) * value)


def test_a_closed_gate_lets_nothing_through() -> None:
    gdfn = GDFN(6, 2.66)
    gdfn.project_in.weight[: gdfn.hidden] = 0
    assert not gdfn(torch.randn(1, 6, 5, 5)).any()


def test_a_block_with_silent_branches_is_the_identity() -> None:
    block = TransformerBlock(8, 2, 2.66)
    block.attn.project_out.weight.zero_()
    block.ffn.project_out.weight.zero_()
    x = torch.randn(1, 8, 4, 6)
    assert torch.equal(block(x), x)


def test_a_transposed_image_gives_the_transposed_answer_when_the_kernels_are_transposed() -> None:
    block = TransformerBlock(8, 2, 2.66)
    x = torch.randn(2, 8, 6, 10)
    upright = block(x)
    for conv in (block.attn.qkv_dwconv, block.ffn.dwconv):
        conv.weight.copy_(conv.weight.mT.clone())
    assert_close(block(x.mT), upright.mT)


def test_downsampling_halves_the_sides_and_doubles_the_channels() -> None:
    assert Downsample(8)(torch.randn(2, 8, 6, 10)).shape == (2, 16, 3, 5)


def test_upsampling_doubles_the_sides_and_halves_the_channels() -> None:
    assert Upsample(8)(torch.randn(2, 8, 3, 5)).shape == (2, 4, 6, 10)


def test_an_odd_side_cannot_be_halved() -> None:
    with pytest.raises(RuntimeError, match="divisible"):
        Downsample(8)(torch.randn(1, 8, 5, 6))


def test_a_pointwise_convolution_is_the_same_function_in_training_and_in_evaluation() -> None:
    convolution = conv1x1(5, 7)
    x = torch.rand(2, 5, 6, 4)
    trained = convolution.train()(x)
    assert trained.shape == (2, 7, 6, 4)
    torch.testing.assert_close(trained, convolution.eval()(x), atol=1e-6, rtol=0)
