"""Tests of the measured accuracy and calibration of the degradation head."""

import numpy as np
import pytest
import torch

from models.restoration import Outputs
from models.training.label_accuracy import CASES, expected_calibration_error, label_accuracy
from models.variants import build, variant


def photos() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40, 48, 3), dtype=np.uint8) for _ in range(2)]


def test_a_head_that_always_says_noise_is_right_about_noise_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build(variant("promptnaf-tiny")).eval()
    only_noise = torch.tensor([[9.0, -9.0, -9.0, -9.0]])
    monkeypatch.setattr(network, "outputs", lambda image: Outputs(image, None, only_noise))
    found = label_accuracy(network, photos(), seed=0)
    right = {case for case, share in found.by_case.items() if share == 1.0}
    assert right == {name for name, case in CASES.items() if case.labels == {"noise"}}
    assert found.mean == pytest.approx(len(right) / len(CASES))


def test_the_calibration_error_is_the_gap_between_probability_and_frequency() -> None:
    truths = torch.tensor([[1.0], [0.0], [1.0], [1.0]])
    assert expected_calibration_error(torch.full((4, 1), 0.75), truths) == pytest.approx(0.0)
    assert expected_calibration_error(torch.full((4, 1), 0.95), truths) == pytest.approx(0.2)


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(ValueError, match="no degradation head"):
        label_accuracy(build(variant("promptir-tiny")).eval(), photos(), seed=0)
