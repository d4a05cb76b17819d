"""Images of several sizes in one canvas: each answer is that of the image alone."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import promptir
from models.artifact import DEFAULT_ARTIFACT
from models.checkpoint import load_network
from models.layers import MDTA, Downsample, LayerNorm2d, Upsample
from models.precision import to_float32, to_mixed
from models.promptir import IMAGE_CHANNELS, SIZE_MULTIPLE, PromptIR, PromptIRConfig
from models.validity import Validity, kept

Draw = Callable[[str], PromptIR]
Size = tuple[int, int]

FP64_TOLERANCE = 1e-12
FP32_TOLERANCE = 1e-5
# What leaves a mask out is off by far more than any rounding.
WRONG = 1e-3

sides = st.integers(1, 5).map(lambda eighths: eighths * SIZE_MULTIPLE)
mixes = st.lists(st.tuples(sides, sides), min_size=1, max_size=3)
MIX = [(24, 32), (8, 8), (40, 16)]


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def tiny(drawn_network: Draw) -> PromptIR:
    return drawn_network("promptir-tiny")


@pytest.fixture(scope="module")
def exact(drawn_network: Draw) -> PromptIR:
    return drawn_network("promptir-tiny").double()


@pytest.fixture(scope="module")
def shipped() -> PromptIR:
    weights = DEFAULT_ARTIFACT / "weights.safetensors"
    return load_network(weights, PromptIRConfig.named("promptir-compact"))


def canvas_for(mix: list[Size], margin: Size = (0, 0), dtype: torch.dtype = torch.float32) -> Tensor:
    """Noise all over a canvas that has room for each of `mix`: outside of the images it must not matter."""
    height, width = (max(size[axis] for size in mix) + margin[axis] for axis in (0, 1))
    generator = torch.Generator().manual_seed(len(mix) + height * width)
    return torch.rand(len(mix), 3, height, width, dtype=dtype, generator=generator)


def together(network: PromptIR, canvas: Tensor, mix: list[Size]) -> list[Tensor]:
    heights, widths = torch.tensor(mix).unbind(dim=1)
    restored = network(canvas, heights, widths)
    return [image[None, :, :height, :width] for image, (height, width) in zip(restored, mix, strict=True)]


def alone(network: PromptIR, canvas: Tensor, mix: list[Size]) -> list[Tensor]:
    return [network(image[None, :, :height, :width]) for image, (height, width) in zip(canvas, mix, strict=True)]


def worst(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(found, expected, strict=True))


@given(mix=mixes, margin=st.tuples(sides, sides) | st.just((0, 0)))
@settings(max_examples=12, deadline=None)
def test_any_mix_of_sizes_is_exact_in_double_precision(exact: PromptIR, mix: list[Size], margin: Size) -> None:
    canvas = canvas_for(mix, margin, torch.float64)
    assert worst(together(exact, canvas, mix), alone(exact, canvas, mix)) < FP64_TOLERANCE


@given(mix=mixes)
@settings(max_examples=8, deadline=None)
def test_any_mix_of_sizes_is_exact_to_rounding_with_the_shipped_weights(shipped: PromptIR, mix: list[Size]) -> None:
    canvas = canvas_for(mix)
    assert worst(together(shipped, canvas, mix), alone(shipped, canvas, mix)) < FP32_TOLERANCE


def test_the_shipped_weights_are_exact_in_double_precision(shipped: PromptIR) -> None:
    canvas = canvas_for(MIX, dtype=torch.float64)
    double = load_network(DEFAULT_ARTIFACT / "weights.safetensors", shipped.config).double()
    assert worst(together(double, canvas, MIX), alone(double, canvas, MIX)) < FP64_TOLERANCE


def test_the_deployed_form_is_exact_too(tiny: PromptIR) -> None:
    network, canvas = to_float32(tiny), canvas_for(MIX)
    assert worst(together(network, canvas, MIX), alone(network, canvas, MIX)) < FP32_TOLERANCE


def test_mixed_precision_is_as_near_as_its_own_single_runs_are_to_float32(shipped: PromptIR) -> None:
    network, canvas = to_mixed(shipped, torch.bfloat16), canvas_for(MIX)
    own_error = worst(alone(network, canvas, MIX), alone(shipped, canvas, MIX))
    assert worst(together(network, canvas, MIX), alone(shipped, canvas, MIX)) < 2 * own_error


def test_the_prompt_weights_are_those_of_the_image_alone(exact: PromptIR) -> None:
    canvas = canvas_for(MIX, dtype=torch.float64)
    heights, widths = torch.tensor(MIX).unbind(dim=1)
    weights = exact.weighed(canvas, heights, widths)[1]
    for found, image, (height, width) in zip(weights, canvas, MIX, strict=True):
        expected = exact.weighed(image[None, :, :height, :width])[1][0]
        torch.testing.assert_close(found, expected, atol=FP64_TOLERANCE, rtol=0)


def test_images_that_fill_the_canvas_come_out_as_in_a_plain_run(tiny: PromptIR) -> None:
    canvas = canvas_for([(24, 32)] * 2)
    torch.testing.assert_close(
        torch.cat(together(tiny, canvas, [(24, 32)] * 2)), tiny(canvas), atol=FP32_TOLERANCE, rtol=0
    )


def _everywhere(forward: Callable[..., Any]) -> Callable[..., Any]:
    return lambda module, x, valid=None: forward(module, x)


def _is_image(x: Tensor) -> bool:
    return x.shape[1] == IMAGE_CHANNELS


LEFT_OUT: dict[str, tuple[object, str, object]] = {
    "after the norms": (LayerNorm2d, "forward", _everywhere(LayerNorm2d.forward)),
    "q and k": (MDTA, "forward", _everywhere(MDTA.forward)),
    "before the way down": (Downsample, "forward", _everywhere(Downsample.forward)),
    "before the way up": (Upsample, "forward", _everywhere(Upsample.forward)),
    "the image": (promptir, "kept", lambda x, valid: x if _is_image(x) else kept(x, valid)),
    "before the output": (promptir, "kept", lambda x, valid: kept(x, valid) if _is_image(x) else x),
    "the mean of the prompt": (Validity, "mean", lambda valid, x: x.mean(dim=(-2, -1))),
    "the size of the prompt": (
        Validity,
        "resized",
        lambda valid, maps: F.interpolate(maps, valid.mask.shape[-2:], mode="bilinear"),
    ),
}


@pytest.mark.parametrize("part", LEFT_OUT)
def test_no_mask_can_be_left_out(exact: PromptIR, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    canvas = canvas_for(MIX, dtype=torch.float64)
    expected = alone(exact, canvas, MIX)
    monkeypatch.setattr(*LEFT_OUT[part])
    assert worst(together(exact, canvas, MIX), expected) > WRONG


def test_zero_padding_without_masks_is_wrong(exact: PromptIR) -> None:
    canvas = canvas_for(MIX[:1], margin=(8, 8), dtype=torch.float64)
    padded = torch.zeros_like(canvas)
    padded[:, :, :24, :32] = canvas[:, :, :24, :32]
    assert (exact(padded)[..., :24, :32] - exact(canvas[..., :24, :32])).abs().max() > WRONG
