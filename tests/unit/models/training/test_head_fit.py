"""Tests of fitting the degradation head to the features of a finished network."""

import numpy as np
import pytest
import torch

from models.training.head_fit import Examples, draw_examples, fit_head
from models.training.label_accuracy import expected_calibration_error, label_accuracy
from models.variants import build, variant


def photos(count: int = 3, side: int = 256) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        np.kron(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), np.ones((side // 4,) * 2 + (1,), np.uint8))
    ] * count


def test_the_head_learns_labels_from_features_of_any_scale() -> None:
    network = build(variant("promptnaf-tiny")).eval()
    rng = torch.Generator().manual_seed(0)
    channels = network.get_submodule("head.hidden").weight.shape[1]
    labels = (torch.rand((600, 4), generator=rng) < 0.5).float()
    features = 0.1 * torch.randn((600, channels), generator=rng)
    features[:, :4] += labels
    scale = torch.logspace(-2, 3, channels)
    examples = Examples(features * scale + 5.0, labels)
    fit_head(network, examples, seed=0)
    with torch.no_grad():
        probabilities = torch.sigmoid(network.get_submodule("head")(examples.features))
    assert ((probabilities > 0.5) == (labels > 0.5)).float().mean() > 0.99
    assert expected_calibration_error(probabilities, labels) < 0.05


def test_a_fitted_head_classifies_better_than_a_random_one() -> None:
    torch.manual_seed(0)
    network = build(variant("promptnaf-tiny")).eval()
    before = label_accuracy(network, photos(side=64), seed=1).mean
    added: list[int] = []
    examples = draw_examples(network, photos(), photos(side=64), 100, 0, added.append)
    assert sum(added) == len(examples.features) == len(examples.labels) >= 100
    fit_head(network, examples, seed=0)
    assert label_accuracy(network, photos(side=64), seed=1).mean > before + 0.2


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 512), (512, 8), (64, 64)])
def test_a_fitted_head_finds_nothing_in_a_picture_of_one_colour(height: int, width: int) -> None:
    torch.manual_seed(0)
    network = build(variant("promptnaf-tiny")).eval()
    fit_head(network, draw_examples(network, photos(), photos(side=64), 200, 0, len_of), seed=0)
    for level in (0.0, 0.35, 1.0):
        with torch.inference_mode():
            logits = network.outputs(torch.full((1, 3, height, width), level)).degradations
        assert torch.sigmoid(logits).max() < 0.5


def test_the_same_seed_gives_the_same_head() -> None:
    heads = []
    for _ in range(2):
        torch.manual_seed(0)
        network = build(variant("promptnaf-tiny")).eval()
        fit_head(network, draw_examples(network, photos(), photos(side=64), 24, 3, len_of), seed=3)
        heads.append(network.get_submodule("head.logits").weight.detach())
    assert torch.equal(*heads)


def len_of(count: int) -> None:
    assert count > 0


def test_a_network_without_a_head_cannot_be_fitted() -> None:
    network = build(variant("promptir-tiny")).eval()
    with pytest.raises(ValueError, match="no degradation head"):
        draw_examples(network, photos(), photos(), 8, 0, len_of)
