"""Tests of the network: agreement with the published one, variants, and properties that the server relies on."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoint import shapes_of
from models.precision import aligned, to_float32
from models.promptir import PromptIR
from models.restoration import SIZE_MULTIPLE
from models.variants import build, variant

Draw = Callable[[str], PromptIR]

GOLDEN = Path(__file__).parents[2] / "golden"
GOLDEN_TOLERANCE = 1e-4
BATCH_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def tiny(drawn_network: Draw) -> PromptIR:
    return drawn_network("promptir-tiny")


@pytest.mark.parametrize(
    "form", [lambda network: network, aligned, to_float32], ids=["as it is", "aligned", "exported"]
)
def test_the_published_weights_would_give_the_published_answer(
    drawn_network: Draw, form: Callable[[PromptIR], PromptIR]
) -> None:
    golden = np.load(GOLDEN / "promptir_1x64x64.npz")
    network = form(drawn_network("promptir"))
    with torch.inference_mode():
        restored = network(torch.from_numpy(golden["image"])).numpy()
    assert np.abs(restored - golden["restored"]).max() < GOLDEN_TOLERANCE


def test_parameter_names_and_shapes_are_the_published_ones() -> None:
    published = json.loads((GOLDEN / "state_dict_keys.json").read_text())
    assert len(published) == 548
    assert shapes_of(variant("promptir")) == {name: tuple(shape) for name, shape in published.items()}


def test_leaving_out_the_unused_convolutions_leaves_out_only_those() -> None:
    with_them = shapes_of(variant("promptir"))
    without = shapes_of(replace(variant("promptir"), unused_convolutions=False))
    assert len(with_them) - len(without) == 6
    assert without.items() <= with_them.items()


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="8 channels and 3 heads"):
        build(replace(variant("promptir-tiny"), heads=(3, 2, 4, 8)))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 40), (48, 24)])
def test_the_answer_has_the_shape_of_the_image(tiny: PromptIR, height: int, width: int) -> None:
    with torch.inference_mode():
        assert tiny(torch.rand(2, 3, height, width)).shape == (2, 3, height, width)


def test_the_size_multiple_is_what_the_network_needs(tiny: PromptIR) -> None:
    with torch.inference_mode(), pytest.raises(RuntimeError, match="divisible"):
        tiny(torch.rand(1, 3, SIZE_MULTIPLE, SIZE_MULTIPLE + SIZE_MULTIPLE // 2))


def test_a_mixed_batch_equals_single_runs(tiny: PromptIR) -> None:
    images = torch.cat([torch.rand(1, 3, 24, 32), torch.zeros(1, 3, 24, 32), torch.rand(1, 3, 24, 32) * 0.1 + 0.9])
    with torch.inference_mode():
        together = tiny(images)
        alone = torch.cat([tiny(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=BATCH_TOLERANCE, rtol=0)


def test_the_prompt_weights_are_those_of_each_image_from_coarse_to_fine(tiny: PromptIR) -> None:
    images = torch.rand(2, 3, 16, 24)
    seen: dict[str, torch.Tensor] = {}
    for name in ("prompt3", "prompt2", "prompt1"):
        getattr(tiny, name).register_forward_hook(lambda module, _, answer, name=name: seen.update({name: answer[1]}))
    with torch.inference_mode():
        restored, weights, _ = tiny.outputs(images)
        assert torch.equal(restored, tiny(images))
    assert weights.shape == (2, *tiny.prompt_shape) == (2, 3, 5)
    for level, name in enumerate(("prompt3", "prompt2", "prompt1")):
        assert torch.equal(weights[:, level], seen[name])


def test_the_order_of_a_batch_does_not_matter(tiny: PromptIR) -> None:
    images = torch.rand(3, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(tiny(images.flip(0)), tiny(images).flip(0), atol=BATCH_TOLERANCE, rtol=0)


def test_a_silent_output_convolution_returns_the_image(drawn_network: Draw) -> None:
    network = drawn_network("promptir-tiny")
    image = torch.rand(1, 3, 16, 16)
    with torch.inference_mode():
        network.output.weight.zero_()
        assert torch.equal(network(image), image)


def test_one_changed_pixel_changes_the_far_corner(tiny: PromptIR) -> None:
    image = torch.rand(1, 3, 128, 128)
    changed = image.clone()
    changed[..., :8, :8] = 1 - changed[..., :8, :8]
    with torch.inference_mode():
        difference = (tiny(image) - tiny(changed)).abs()
    assert difference[..., -8:, -8:].max() > 0


def test_training_reaches_every_parameter() -> None:
    network = build(variant("promptir-tiny"))
    network(torch.rand(1, 3, 16, 16)).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
