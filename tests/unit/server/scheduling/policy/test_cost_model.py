"""Tests of the CostModel."""

import random
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.scheduling.policy.cost_model import MOST_SHAPES, CostModel

SMALL, LARGE, UNSEEN = (64, 64), (128, 128), (96, 96)


def device(padded_shape: tuple[int, int], count: int, slowdown: float = 1.0) -> float:
    """6 ms a run and 2 ms an image of 64x64."""
    return slowdown * (6 + 2 * count * padded_shape[0] * padded_shape[1] / 4096) / 1e3


def taught(*runs: tuple[tuple[int, int], int], slowdown: float = 1.0) -> CostModel:
    model = CostModel()
    for padded_shape, count in runs:
        model.observe(padded_shape, count, device(padded_shape, count, slowdown))
    return model


def test_nothing_is_predicted_before_anything_is_measured() -> None:
    assert CostModel().predict((1000, 1000), 8) == 0


def test_one_run_predicts_in_proportion_to_the_pixels() -> None:
    model = CostModel()
    model.observe((10, 100), 1, 0.5)
    assert model.predict((10, 100), 4) == pytest.approx(2.0)
    assert model.predict((20, 100), 1) == pytest.approx(1.0)


def test_while_one_size_is_known_fewer_pixels_cost_as_much() -> None:
    model = CostModel()
    model.observe((64, 64), 1, 0.7)
    assert model.predict((8, 8), 1) == pytest.approx(0.7)
    model.observe((32, 32), 1, 0.7)
    assert model.predict((8, 8), 1) == pytest.approx(0.7)
    model.observe((128, 128), 1, 0.7)
    assert model.predict((256, 256), 1) == pytest.approx(0.7)


def test_a_day_of_one_size_does_not_make_one_forget_what_is_fixed_and_what_goes_by_the_pixels() -> None:
    model = taught((SMALL, 1), (SMALL, 8), (LARGE, 2))
    tile = (512, 512)
    for side in [64, 72] * 100:  # sizes that are nearly the same tell no more than one
        model.observe((64, side), 1, device((64, side), 1))
    assert model.predict(tile, 1) == pytest.approx(device(tile, 1), rel=0.05)
    for _ in range(100):
        model.observe(SMALL, 1, device(SMALL, 1, slowdown=2))
    assert model.predict(tile, 1) == pytest.approx(device(tile, 1, slowdown=2), rel=0.05)


def test_two_counts_of_a_padded_shape_give_its_fixed_cost_and_its_cost_for_each_image() -> None:
    model = taught((SMALL, 1), (SMALL, 4))
    assert [model.predict(SMALL, n) for n in (1, 2, 8)] == pytest.approx([0.008, 0.010, 0.022])


def test_an_unseen_padded_shape_is_predicted_by_its_pixels() -> None:
    model = taught((SMALL, 1), (SMALL, 8), (LARGE, 2))
    assert model.predict(UNSEEN, 3) == pytest.approx(device(UNSEEN, 3), rel=0.01)


def test_a_padded_shape_of_one_count_borrows_the_proportions_of_the_others() -> None:
    model = taught((SMALL, 1), (SMALL, 8), (LARGE, 2))
    model.observe(UNSEEN, 1, 1.5 * device(UNSEEN, 1))  # this size runs slower than its pixels say
    assert model.predict(UNSEEN, 1) == pytest.approx(1.5 * device(UNSEEN, 1), rel=0.01)
    assert model.predict(UNSEEN, 8) == pytest.approx(1.5 * device(UNSEEN, 8), rel=0.01)


def test_it_converges_in_noise() -> None:
    model, noise = CostModel(), random.Random(5)
    for _ in range(200):
        padded_shape, count = noise.choice([SMALL, LARGE]), noise.randint(1, 8)
        model.observe(padded_shape, count, device(padded_shape, count) * noise.uniform(0.9, 1.1))
    for padded_shape in (SMALL, LARGE):
        for count in (1, 4, 8):
            assert model.predict(padded_shape, count) == pytest.approx(device(padded_shape, count), rel=0.05)
    assert model.predict(UNSEEN, 4) == pytest.approx(device(UNSEEN, 4), rel=0.05)
    assert 0.01 < model.relative_error < 0.1


def test_a_few_slow_runs_change_nothing() -> None:
    model = taught(*[(SMALL, count) for count in (1, 2, 4, 8) for _ in range(5)])
    for count in (1, 2, 4, 8):
        model.observe(SMALL, count, 30 * device(SMALL, count))
    for count in (1, 3, 8):
        assert model.predict(SMALL, count) == pytest.approx(device(SMALL, count), rel=0.01)
    assert model.predict(UNSEEN, 2) == pytest.approx(device(UNSEEN, 2), rel=0.05)


def test_the_slow_first_run_of_a_padded_shape_is_forgotten_with_the_second() -> None:
    model = taught((SMALL, 1), (SMALL, 8))
    model.observe(LARGE, 1, 20.0)  # the runtime compiled for this size
    model.observe(LARGE, 1, device(LARGE, 1))
    assert model.predict(LARGE, 1) == pytest.approx(device(LARGE, 1))


def test_a_real_change_is_followed_within_tens_of_runs() -> None:
    model, choose = CostModel(), random.Random(1)
    for _ in range(300):
        count = choose.randint(1, 8)
        model.observe(SMALL, count, device(SMALL, count))
    for _ in range(50):
        count = choose.randint(1, 8)
        model.observe(SMALL, count, device(SMALL, count, slowdown=2))
    for count in (1, 4, 8):
        assert model.predict(SMALL, count) == pytest.approx(device(SMALL, count, slowdown=2), rel=0.1)


def test_a_count_that_is_no_longer_run_does_not_hold_back_the_change() -> None:
    model = taught(*[(SMALL, count) for count in (1, 2, 3, 4, 8) for _ in range(7)])
    for _ in range(30):
        for count in (7, 8):
            model.observe(SMALL, count, device(SMALL, count, slowdown=3))
    assert model.predict(SMALL, 8) == pytest.approx(device(SMALL, 8, slowdown=3), rel=0.1)


def test_tiny_runs_are_followed_too_though_not_after_each() -> None:
    model = CostModel()
    for _ in range(100):
        model.observe(SMALL, 1, 50e-6)
    before = model.costs
    model.observe(SMALL, 1, 50e-6)
    assert model.costs is before
    for _ in range(20):
        model.observe(SMALL, 1, 150e-6)
    assert model.predict(SMALL, 1) == pytest.approx(150e-6)


def test_a_count_that_is_run_for_the_first_time_counts_at_once() -> None:
    model = CostModel()
    for _ in range(100):
        model.observe(SMALL, 1, 50e-6)
    model.observe(SMALL, 8, 400e-6)
    assert model.predict(SMALL, 8) == pytest.approx(400e-6)


def test_the_relative_error_says_how_far_off_predictions_are() -> None:
    model = taught(*[(SMALL, count) for count in (1, 8) for _ in range(50)])
    assert model.relative_error < 0.05
    for _ in range(40):
        model.observe(SMALL, 8, 2 * model.predict(SMALL, 8))
    assert model.relative_error > 0.3


def test_fits_are_told_for_the_padded_shapes_seen_last() -> None:
    model = taught((LARGE, 1), (SMALL, 1), (SMALL, 8))
    (small, line, runs), (large, _, _) = model.fits()
    assert (small, large, runs) == (SMALL, LARGE, 2)
    assert (line.fixed, line.slope) == pytest.approx((0.006, 0.002))


def test_uploads_of_any_size_do_not_fill_the_memory() -> None:
    model = CostModel()
    for side in range(1, 3 * MOST_SHAPES):
        model.observe((8, 8 * side), 1, device((8, 8 * side), 1))
    assert len(model.fits()) == MOST_SHAPES
    assert model.predict((8, 8), 1) == pytest.approx(device((8, 8), 1), rel=0.5)


@given(
    runs=st.lists(
        st.tuples(st.sampled_from([SMALL, LARGE, UNSEEN]), st.integers(1, 8), st.floats(0, 1e4, allow_subnormal=False)),
        max_size=60,
    )
)
def test_whatever_was_measured_no_prediction_is_negative_and_more_images_never_cost_less(
    runs: list[tuple[tuple[int, int], int, float]],
) -> None:
    model = CostModel()
    for padded_shape, count, seconds in runs:
        model.observe(padded_shape, count, seconds)
    for padded_shape in (SMALL, LARGE, UNSEEN, (8, 8)):
        predictions = [model.predict(padded_shape, count) for count in range(1, 9)]
        assert predictions == sorted(predictions)
        assert predictions[0] >= 0


def test_two_threads_may_teach_it_at_once() -> None:
    model, interval = CostModel(), sys.getswitchinterval()

    def teach(side: int) -> None:
        for run in range(400):
            model.observe((side, 64 + run % 300), 1 + run % 8, 0.001)

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(teach, (64, 128)))  # raises what a thread raised
    finally:
        sys.setswitchinterval(interval)
    assert len(model.fits()) == len(model.costs.lines) == MOST_SHAPES
