"""Tests of the prompt block: weights, mixture and interaction with features."""

from collections.abc import Iterator

import pytest
import torch

from models.layers import TransformerBlock, conv1x1
from models.prompt import PromptGeneration, interact

EXACT = 1e-5


@pytest.fixture(autouse=True)
def _seeded_without_gradients() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


@pytest.fixture
def generation() -> PromptGeneration:
    return PromptGeneration(channels=8, prompt_channels=6, components=5, size=4)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (2, 2), (16, 6), (1, 1)])
def test_the_prompt_takes_the_height_and_width_of_the_features(
    generation: PromptGeneration, height: int, width: int
) -> None:
    assert generation(torch.randn(3, 8, height, width))[0].shape == (3, 6, height, width)


def test_the_weights_of_the_components_sum_to_one(generation: PromptGeneration) -> None:
    weights = generation.weigh(torch.randn(3, 8, 4, 4) * 10)
    assert weights.shape == (3, 5)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3), atol=EXACT, rtol=0)


def test_the_weights_depend_on_the_mean_of_the_features_only(generation: PromptGeneration) -> None:
    features = torch.randn(2, 8, 4, 4)
    flat = features.mean(dim=(2, 3), keepdim=True).expand_as(features)
    torch.testing.assert_close(generation.weigh(features), generation.weigh(flat), atol=EXACT, rtol=0)


def test_the_prompt_is_the_weighted_sum_of_the_components(generation: PromptGeneration) -> None:
    features = torch.randn(2, 8, 4, 4)
    weights = generation.weigh(features)
    mixture = sum(weights[:, index, None, None, None] * generation.prompt_param[:, index] for index in range(5))
    torch.testing.assert_close(generation(features)[0], generation.conv3x3(mixture), atol=EXACT, rtol=0)


def test_a_certain_weight_picks_one_component(generation: PromptGeneration) -> None:
    generation.linear_layer.weight.zero_()
    generation.linear_layer.bias.copy_(torch.tensor([0.0, 0.0, 100.0, 0.0, 0.0]))
    expected = generation.conv3x3(generation.prompt_param[:, 2])
    torch.testing.assert_close(generation(torch.randn(1, 8, 4, 4))[0], expected, atol=EXACT, rtol=0)


def test_each_image_of_a_batch_gets_its_own_prompt(generation: PromptGeneration) -> None:
    features = torch.randn(3, 8, 6, 10) * torch.tensor([0.1, 1.0, 10.0]).view(3, 1, 1, 1)
    alone = torch.cat([generation(features[index : index + 1])[0] for index in range(3)])
    torch.testing.assert_close(generation(features)[0], alone, atol=EXACT, rtol=0)


def test_interaction_reduces_features_and_prompt_to_the_asked_width() -> None:
    block, reduce = TransformerBlock(14, 2, 2.66), conv1x1(14, 8)
    assert interact(torch.randn(2, 8, 4, 6), torch.randn(2, 6, 4, 6), block, reduce).shape == (2, 8, 4, 6)


def test_interaction_hears_the_prompt() -> None:
    block, reduce = TransformerBlock(14, 2, 2.66), conv1x1(14, 8)
    features = torch.randn(1, 8, 4, 6)
    quiet, loud = torch.zeros(1, 6, 4, 6), torch.ones(1, 6, 4, 6)
    assert (interact(features, quiet, block, reduce) - interact(features, loud, block, reduce)).abs().max() > EXACT
