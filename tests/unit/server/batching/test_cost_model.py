"""Tests of the CostModel."""

import pytest

from server.batching.cost_model import WINDOW_RUNS, CostModel


def test_nothing_is_predicted_before_anything_is_measured() -> None:
    assert CostModel().predict(1_000_000) == 0


def test_a_prediction_is_in_proportion_to_the_pixels() -> None:
    model = CostModel()
    model.observe(1000, 0.5)
    assert model.predict(4000) == pytest.approx(2.0)


def test_large_runs_weigh_more_than_small_ones() -> None:
    model = CostModel()
    model.observe(100, 1.0)
    model.observe(900, 1.0)
    assert model.predict(1000) == pytest.approx(2.0)


def test_old_runs_are_forgotten() -> None:
    model = CostModel()
    model.observe(1, 1000.0)
    for _ in range(WINDOW_RUNS):
        model.observe(100, 0.1)
    assert model.predict(100) == pytest.approx(0.1)
