"""Tests of the report."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.imaging.report import Findings, measure_change

DTYPES = st.sampled_from([np.uint8, np.uint16])


@given(DTYPES, st.integers(1, 515), st.sampled_from([1, 3]))
def test_the_change_is_that_of_the_whole_arrays(dtype: type, height: int, channels: int) -> None:
    rng = np.random.default_rng(height)
    full = int(np.iinfo(dtype).max)
    before, after = (rng.integers(0, full, (channels, height, 3), dtype, endpoint=True) for _ in range(2))
    difference = (after.astype(np.float64) - before) / full
    change = measure_change(before, after)
    assert change.mean_abs == pytest.approx(np.abs(difference).mean())
    assert change.max_abs == pytest.approx(np.abs(difference).max())
    assert change.psnr_db == pytest.approx(-10 * math.log10(np.mean(difference**2)))


def test_no_change_is_zero_with_an_infinite_psnr() -> None:
    samples = np.full((3, 4, 5), 200, np.uint8)
    change = measure_change(samples, samples)
    assert (change.mean_abs, change.max_abs, change.psnr_db) == (0, 0, math.inf)


def test_black_to_white_is_the_whole_range() -> None:
    change = measure_change(np.zeros((3, 2, 2), np.uint16), np.full((3, 2, 2), 65535, np.uint16))
    assert (change.mean_abs, change.max_abs, change.psnr_db) == pytest.approx((1, 1, 0), abs=1e-6)


def test_arrays_of_another_size_or_depth_are_not_compared() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        measure_change(np.zeros((3, 2, 2), np.uint8), np.zeros((3, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="cannot be compared"):
        measure_change(np.zeros((3, 2, 2), np.uint8), np.zeros((3, 2, 2), np.uint16))


def test_the_findings_of_an_image_are_the_mean_over_its_runs() -> None:
    runs = [np.array([[1, 0], [0.5, 0.5]], np.float32), np.array([[0, 1], [0.25, 0.75]], np.float32)]
    assert Findings.of(runs, ()) == Findings(((0.5, 0.5), (0.375, 0.625)), None)


def test_the_last_row_has_the_probabilities_of_the_labels() -> None:
    found = np.array([[0.5, 0.25, 0.25], [1, 0, 0], [0.75, 0.125, 0]], np.float32)
    assert Findings.of([found], ("noise", "haze")) == Findings(
        ((0.5, 0.25, 0.25), (1, 0, 0)), {"noise": 0.75, "haze": 0.125}
    )
    assert Findings.of([found[2:]], ("noise", "haze")) == Findings(None, {"noise": 0.75, "haze": 0.125})


@pytest.mark.parametrize("other", [None, np.full((2, 2), np.nan, np.float32)])
def test_the_findings_are_empty_if_a_run_has_none(other: np.ndarray | None) -> None:
    run = np.full((2, 2), 0.5, np.float32)
    assert Findings.of([run], ()).prompt_weights == ((0.5, 0.5), (0.5, 0.5))
    assert Findings.of([run, other], ("noise",)) == Findings()
    assert Findings.of([], ("noise",)) == Findings()
