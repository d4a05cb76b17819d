"""Tests of mixed precision and aligned widths, and of where half precision would fail."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from models.layers import GDFN, MDTA, LayerNorm2d, l2_normalise
from models.precision import MIXED_DTYPES, aligned, to_float32, to_mixed
from models.prompt import PromptGeneration
from models.restoration import RestorationNetwork, channels_last
from models.variants import build, variant

PADDING_TOLERANCE = 1e-6


@pytest.fixture(autouse=True)
def _seeded_without_gradients() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


@pytest.fixture
def network() -> RestorationNetwork:
    return build(variant("promptir-tiny")).eval()


def psnr(found: Tensor, expected: Tensor) -> float:
    return -10 * float(torch.log10((found - expected).square().mean()))


@pytest.mark.parametrize(("channels", "hidden"), [(48, 127), (8, 21), (16, 42), (3, 8)])
def test_padding_widens_both_halves_and_computes_the_same(channels: int, hidden: int) -> None:
    gdfn = GDFN(channels, (hidden + 0.5) / channels)
    x = torch.randn(2, channels, 6, 10)
    before = gdfn(x)
    gdfn.pad_hidden(8)
    assert gdfn.hidden == -(-hidden // 8) * 8
    assert gdfn.project_in.weight.shape == (2 * gdfn.hidden, channels, 1, 1)
    assert gdfn.dwconv.weight.shape == (2 * gdfn.hidden, 1, 3, 3)
    assert gdfn.project_out.weight.shape == (channels, gdfn.hidden, 1, 1)
    assert (gdfn(x) - before).abs().max() <= PADDING_TOLERANCE


def test_an_aligned_network_computes_the_same_and_leaves_the_original_alone(network: RestorationNetwork) -> None:
    image = torch.rand(2, 3, 24, 40)
    before, names = network(image), list(network.state_dict())
    wide = aligned(network)
    assert (wide(image) - before).abs().max() <= PADDING_TOLERANCE
    assert torch.equal(network(image), before)
    assert list(wide.state_dict()) == names
    assert all(module.hidden % 8 == 0 for module in wide.modules() if isinstance(module, GDFN))


@pytest.mark.parametrize(("channels", "heads"), [(8, 1), (24, 4)])
def test_a_projection_that_is_merged_into_the_attention_gives_the_same_answer(channels: int, heads: int) -> None:
    attention, x = MDTA(channels, heads), torch.randn(3, channels, 6, 10)
    apart = attention(x)
    attention.merges_projection = True
    torch.testing.assert_close(attention(x), apart, atol=PADDING_TOLERANCE, rtol=0)


def test_the_exported_float32_form_has_no_projection_by_itself_and_leaves_the_original_alone(
    network: RestorationNetwork,
) -> None:
    image = torch.rand(2, 3, 24, 40)
    before = network(image)
    exported = to_float32(network)
    for module in exported.modules():
        if isinstance(module, MDTA):
            module.project_out.forward = pytest.fail  # it must be read, and never run
    assert (exported(image) - before).abs().max() <= PADDING_TOLERANCE
    assert torch.equal(network(image), before)


@pytest.mark.parametrize(("dtype", "decibels"), [(torch.float16, 70), (torch.bfloat16, 50)])
def test_a_mixed_network_takes_and_gives_float32_and_stays_close(
    network: RestorationNetwork, dtype: torch.dtype, decibels: float
) -> None:
    image = torch.rand(2, 3, 32, 48)
    restored = to_mixed(network, dtype)(image)
    assert restored.dtype == torch.float32
    assert psnr(restored, network(image)) > decibels


@pytest.mark.parametrize(("dtype", "decibels"), [(torch.float16, 70), (torch.bfloat16, 50)])
def test_a_mixed_network_without_float32_copies_is_as_close(
    network: RestorationNetwork, dtype: torch.dtype, decibels: float
) -> None:
    image = torch.rand(2, 3, 32, 48)
    found = channels_last(to_mixed(network, dtype, wide_copies=False)).outputs(image)
    expected = network.outputs(image)
    assert psnr(found.restored, expected.restored) > decibels
    torch.testing.assert_close(found.prompt_weights, expected.prompt_weights, atol=5e-3, rtol=0)


def test_without_float32_copies_only_temperatures_stay_float32(network: RestorationNetwork) -> None:
    mixed = to_mixed(network, wide_copies=False)
    wide = {name for name, parameter in mixed.named_parameters() if parameter.dtype != torch.float16}
    assert wide == {name for name in network.state_dict() if name.endswith("temperature")}


def test_long_rows_and_rows_of_zeros_do_not_overflow_without_float32_copies() -> None:
    attention, x = MDTA(4, 2), torch.full((2, 4, 300, 300), 2.0)  # sums of squares reach 5 times the largest half
    attention.qkv_dwconv.weight.fill_(0.1)
    attention.qkv.weight[5].zero_()
    expected = attention(x)
    for parameter in (attention.qkv.weight, attention.qkv_dwconv.weight, attention.project_out.weight):
        parameter.data = parameter.data.half()
    attention.wide_copies = False
    torch.testing.assert_close(attention(x.half()).float(), expected, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("dtype", MIXED_DTYPES)
def test_only_what_islands_read_stays_float32(network: RestorationNetwork, dtype: torch.dtype) -> None:
    wide = {name for name, parameter in to_mixed(network, dtype).named_parameters() if parameter.dtype != dtype}
    assert wide == {name for name in network.state_dict() if ".norm" in name or name.endswith("temperature")}


def test_a_dtype_that_is_not_half_is_refused(network: RestorationNetwork) -> None:
    with pytest.raises(ValueError, match=r"float16 or bfloat16, not torch\.float32"):
        to_mixed(network, torch.float32)


def test_half_and_mixed_networks_have_the_same_islands(network: RestorationNetwork) -> None:
    image = torch.rand(1, 3, 24, 32)
    assert psnr(network.half()(image), to_mixed(network.float())(image)) > 70


def test_the_norm_of_a_long_row_does_not_overflow_half() -> None:
    row = torch.full((1, 512 * 512), 2.0).half()  # the sum of its squares is 16 times the largest half
    torch.testing.assert_close(l2_normalise(row), torch.full_like(row, 1 / 512))


def test_a_zero_row_of_half_stays_zero() -> None:
    assert not l2_normalise(torch.zeros(1, 64).half()).any()


@pytest.mark.parametrize("wide_copies", [True, False])
def test_the_layer_norm_of_large_and_of_tiny_features_is_that_of_float32(wide_copies: bool) -> None:
    features, norm = torch.randn(1, 16, 4, 4), LayerNorm2d(16).half()
    norm.wide_copies = wide_copies
    for scale in (4000.0, 4e-5):
        x = (features * scale).half()
        expected = LayerNorm2d(16)(x.float())
        torch.testing.assert_close(norm(x).float(), expected, atol=2e-3, rtol=1e-3)


def test_the_mean_of_the_prompt_does_not_overflow_half() -> None:
    generation = PromptGeneration(channels=4, prompt_channels=4, components=5, size=4)
    features = torch.rand(1, 4, 256, 256) + 2  # a sum of 160 000, and a mean of 2.5
    expected = generation.weigh(features)
    torch.testing.assert_close(generation.half().weigh(features.half()).float(), expected, atol=2e-3, rtol=0)


def test_a_large_temperature_keeps_its_attention_finite() -> None:
    mdta = MDTA(8, 2)
    x = torch.randn(1, 8, 16, 16)
    mdta.temperature.fill_(1e5)  # beyond the range of half
    expected = mdta(x)
    for parameter in (mdta.qkv.weight, mdta.qkv_dwconv.weight, mdta.project_out.weight):
        parameter.data = parameter.data.half()
    assert psnr(mdta(x.half()).float(), expected) > 40


@pytest.mark.parametrize("dtype", MIXED_DTYPES)
def test_a_silent_mixed_network_returns_every_bit_of_the_image(network: RestorationNetwork, dtype: torch.dtype) -> None:
    network.output.weight.zero_()
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(to_mixed(network, dtype)(image), image)


def test_a_double_network_is_not_narrowed() -> None:
    row = torch.randn(1, 100, dtype=torch.float64)
    assert l2_normalise(row).dtype == torch.float64
    torch.testing.assert_close(l2_normalise(row), row / row.norm(), atol=1e-15, rtol=0)
