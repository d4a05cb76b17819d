"""Tests of mixed-size batches: each result equals that of the image alone."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import naf, promptir
from models.artifact import DEFAULT_ARTIFACT
from models.checkpoint import load_network
from models.degradation_head import spatial_mean
from models.layers import MDTA, Downsample, LayerNorm2d, Upsample
from models.precision import to_float32, to_mixed
from models.restoration import IMAGE_CHANNELS, SIZE_MULTIPLE, RestorationNetwork
from models.validity import Validity, kept
from models.variants import variant

Draw = Callable[[str], RestorationNetwork]
Size = tuple[int, int]

FP64_TOLERANCE = 1e-12
FP32_TOLERANCE = 1e-5
# A missing mask causes an error far above rounding.
WRONG = 1e-3

sides = st.integers(1, 5).map(lambda eighths: eighths * SIZE_MULTIPLE)
mixes = st.lists(st.tuples(sides, sides), min_size=1, max_size=3)
MIX = [(24, 32), (8, 8), (40, 16)]


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", params=["promptir-tiny", "promptnaf-tiny"])
def body(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def tiny(drawn_network: Draw, body: str) -> RestorationNetwork:
    return drawn_network(body)


@pytest.fixture(scope="module")
def exact(drawn_network: Draw, body: str) -> RestorationNetwork:
    return drawn_network(body).double()


@pytest.fixture(scope="module")
def shipped() -> RestorationNetwork:
    weights = DEFAULT_ARTIFACT / "weights.safetensors"
    return load_network(weights, variant("promptnaf"))


def padded_noise(mix: list[Size], margin: Size = (0, 0), dtype: torch.dtype = torch.float32) -> Tensor:
    """Create noise in the padded shape of `mix`; the noise outside the images must not matter."""
    height, width = (max(size[axis] for size in mix) + margin[axis] for axis in (0, 1))
    generator = torch.Generator().manual_seed(len(mix) + height * width)
    return torch.rand(len(mix), 3, height, width, dtype=dtype, generator=generator)


def run_mixed(network: RestorationNetwork, padded: Tensor, mix: list[Size]) -> list[Tensor]:
    heights, widths = torch.tensor(mix).unbind(dim=1)
    restored = network(padded, heights, widths)
    return [image[None, :, :height, :width] for image, (height, width) in zip(restored, mix, strict=True)]


def run_alone(network: RestorationNetwork, padded: Tensor, mix: list[Size]) -> list[Tensor]:
    return [network(image[None, :, :height, :width]) for image, (height, width) in zip(padded, mix, strict=True)]


def worst(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(found, expected, strict=True))


@given(mix=mixes, margin=st.tuples(sides, sides) | st.just((0, 0)))
@settings(max_examples=12, deadline=None)
def test_any_mix_of_sizes_is_exact_in_double_precision(
    exact: RestorationNetwork, mix: list[Size], margin: Size
) -> None:
    padded = padded_noise(mix, margin, torch.float64)
    assert worst(run_mixed(exact, padded, mix), run_alone(exact, padded, mix)) < FP64_TOLERANCE


@given(mix=mixes)
@settings(max_examples=8, deadline=None)
def test_any_mix_of_sizes_is_exact_to_rounding_with_the_shipped_weights(
    shipped: RestorationNetwork, mix: list[Size]
) -> None:
    padded = padded_noise(mix)
    assert worst(run_mixed(shipped, padded, mix), run_alone(shipped, padded, mix)) < FP32_TOLERANCE


def test_the_shipped_weights_are_exact_in_double_precision(shipped: RestorationNetwork) -> None:
    padded = padded_noise(MIX, dtype=torch.float64)
    double = load_network(DEFAULT_ARTIFACT / "weights.safetensors", shipped.config).double()
    assert worst(run_mixed(double, padded, MIX), run_alone(double, padded, MIX)) < FP64_TOLERANCE


def test_the_deployed_form_is_exact_too(tiny: RestorationNetwork) -> None:
    network, padded = to_float32(tiny), padded_noise(MIX)
    assert worst(run_mixed(network, padded, MIX), run_alone(network, padded, MIX)) < FP32_TOLERANCE


@pytest.mark.parametrize("wide_copies", [True, False])
def test_mixed_precision_is_as_near_as_its_own_single_runs_are_to_float32(
    shipped: RestorationNetwork, wide_copies: bool
) -> None:
    network, padded = to_mixed(shipped, torch.bfloat16, wide_copies=wide_copies), padded_noise(MIX)
    own_error = worst(run_alone(network, padded, MIX), run_alone(shipped, padded, MIX))
    assert worst(run_mixed(network, padded, MIX), run_alone(shipped, padded, MIX)) < 2 * own_error


def test_attention_without_float32_copies_sees_no_padding(tiny: RestorationNetwork) -> None:
    network, padded = to_mixed(tiny, torch.float16, wide_copies=False), padded_noise(MIX)
    own_error = worst(run_alone(network, padded, MIX), run_alone(tiny, padded, MIX))
    assert worst(run_mixed(network, padded, MIX), run_alone(tiny, padded, MIX)) < 2 * own_error


def test_the_prompt_weights_are_those_of_the_image_alone(exact: RestorationNetwork) -> None:
    padded = padded_noise(MIX, dtype=torch.float64)
    heights, widths = torch.tensor(MIX).unbind(dim=1)
    weights = exact.outputs(padded, heights, widths).prompt_weights
    for found, image, (height, width) in zip(weights, padded, MIX, strict=True):
        expected = exact.outputs(image[None, :, :height, :width]).prompt_weights[0]
        torch.testing.assert_close(found, expected, atol=FP64_TOLERANCE, rtol=0)


def test_images_that_fill_the_padded_shape_come_out_as_in_a_plain_run(tiny: RestorationNetwork) -> None:
    padded = padded_noise([(24, 32)] * 2)
    torch.testing.assert_close(
        torch.cat(run_mixed(tiny, padded, [(24, 32)] * 2)), tiny(padded), atol=FP32_TOLERANCE, rtol=0
    )


def _everywhere(forward: Callable[..., Any]) -> Callable[..., Any]:
    return lambda module, x, valid=None: forward(module, x)


def _is_image(x: Tensor) -> bool:
    return x.shape[1] == IMAGE_CHANNELS


Patch = tuple[object, str, object]

IN_EITHER: dict[str, Patch] = {
    "after the norms": (LayerNorm2d, "forward", _everywhere(LayerNorm2d.forward)),
    "the mean of the prompt": (Validity, "mean", lambda valid, x: x.mean(dim=(-2, -1))),
    "the size of the prompt": (
        Validity,
        "resized",
        lambda valid, maps: F.interpolate(maps, valid.mask.shape[-2:], mode="bilinear"),
    ),
}
IN_PROMPTIR: dict[str, Patch] = {
    **IN_EITHER,
    "q and k": (MDTA, "forward", _everywhere(MDTA.forward)),
    "before the way down": (Downsample, "forward", _everywhere(Downsample.forward)),
    "before the way up": (Upsample, "forward", _everywhere(Upsample.forward)),
    "the image": (promptir, "kept", lambda x, valid: x if _is_image(x) else kept(x, valid)),
    "before the output": (promptir, "kept", lambda x, valid: kept(x, valid) if _is_image(x) else x),
}
IN_NAF: dict[str, Patch] = {
    **IN_EITHER,
    "the mean of the attention": (naf, "spatial_mean", lambda x, valid: spatial_mean(x)),
    "the image": (naf, "kept", lambda x, valid: x if _is_image(x) else kept(x, valid)),
    "before the output": (naf, "kept", lambda x, valid: kept(x, valid) if _is_image(x) else x),
}
LEFT_OUT = [
    *(("promptir-tiny", part, patch) for part, patch in IN_PROMPTIR.items()),
    *(("promptnaf-tiny", part, patch) for part, patch in IN_NAF.items()),
]


@pytest.mark.parametrize(("name", "patch"), [pytest.param(n, p, id=f"{n}, {part}") for n, part, p in LEFT_OUT])
def test_no_mask_can_be_left_out(drawn_network: Draw, monkeypatch: pytest.MonkeyPatch, name: str, patch: Patch) -> None:
    network = drawn_network(name).double()
    padded = padded_noise(MIX, dtype=torch.float64)
    expected = run_alone(network, padded, MIX)
    monkeypatch.setattr(*patch)
    assert worst(run_mixed(network, padded, MIX), expected) > WRONG


def test_zero_padding_without_masks_is_wrong(exact: RestorationNetwork) -> None:
    padded = padded_noise(MIX[:1], margin=(8, 8), dtype=torch.float64)
    zeroed = torch.zeros_like(padded)
    zeroed[:, :, :24, :32] = padded[:, :, :24, :32]
    assert (exact(zeroed)[..., :24, :32] - exact(padded[..., :24, :32])).abs().max() > WRONG
