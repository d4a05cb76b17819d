"""Tests of the mix of degradations."""

import numpy as np
import pytest

from models.training.degradations import REGISTRY
from models.training.mix import Mix, default_shares


def test_degradations_are_drawn_as_often_as_their_shares_say() -> None:
    mix, rng = Mix({"gaussian": 3.0, "haze": 1.0}), np.random.default_rng(0)
    drawn = [mix.draw(rng).name for _ in range(400)]
    assert set(drawn) == {"gaussian", "haze"}
    assert 0.7 < drawn.count("gaussian") / len(drawn) < 0.8


def test_an_adjusted_mix_keeps_all_other_shares() -> None:
    adjusted = Mix.adjusted({"haze": 0.5}).shares
    assert adjusted["haze"] == 0.5
    assert {name: share for name, share in adjusted.items() if name != "haze"} == {
        name: share for name, share in default_shares().items() if name != "haze"
    }


def test_at_least_a_tenth_of_the_default_mix_is_to_be_left_alone() -> None:
    shares = default_shares()
    harmless = sum(shares[name] for name in ("clean", "flat", "low_contrast", "soft"))
    assert harmless / sum(shares.values()) > 0.1


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"hase": 1.0}, "unknown degradation 'hase'; known degradations: .*haze"),
        ({"haze": -0.1, "rain": 1.0}, "not negative"),
        ({"haze": float("nan")}, "finite"),
        ({"haze": 0.0}, "above zero"),
    ],
)
def test_a_mix_that_cannot_be_drawn_from_is_refused(shares: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Mix(shares)


def test_every_registered_degradation_has_a_share() -> None:
    assert default_shares().keys() == REGISTRY.keys()
