"""Tests that a photo without degradations comes back unchanged."""

import pytest
import torch

from models.degradation_head import correction_strength
from models.restoration import RestorationNetwork
from models.variants import build, variant


def certain(probability_logits: list[float]) -> RestorationNetwork:
    """Build a small network that changes every picture and whose head always gives these logits."""
    torch.manual_seed(0)
    network = build(variant("promptnaf-tiny")).eval()
    with torch.no_grad():
        network.get_submodule("head.logits").weight.zero_()
        network.get_submodule("head.logits").bias.copy_(torch.tensor(probability_logits))
    return network


def test_a_certainly_clean_picture_comes_back_bit_for_bit() -> None:
    image = torch.rand((2, 3, 24, 32))
    assert torch.equal(certain([-9.0] * 4)(image), image)


@pytest.mark.parametrize("label", range(4))
def test_one_probable_degradation_suffices_for_the_whole_correction(label: int) -> None:
    image = torch.rand((1, 3, 24, 32))
    network = certain([3.0 if other == label else -9.0 for other in range(4)])
    restored = network(image)
    assert not torch.equal(restored, image)
    torch.testing.assert_close(restored, network.train()(image), rtol=0, atol=1e-6)


def test_each_image_of_a_batch_is_judged_alone_and_doubt_blends() -> None:
    logits = torch.logit(torch.tensor([[0.001] * 4, [0.001, 0.275, 0.001, 0.001], [0.9] * 4]))
    strength = correction_strength(logits)
    assert strength.shape == (3, 1, 1, 1)
    assert strength.flatten().tolist() == pytest.approx([0.0, 0.5, 1.0])
