"""Tests of when the requests of an open loop are due."""

import numpy as np
import pytest

from server.cli.bench.arrivals import due_offsets

RATE, SECONDS = 200.0, 500.0


def _gaps(seed: int = 1) -> np.ndarray:
    return np.diff(due_offsets(RATE, SECONDS, "poisson", np.random.default_rng(seed)), prepend=0.0)


def test_poisson_arrivals_keep_the_rate_and_end_in_time() -> None:
    offsets = due_offsets(RATE, SECONDS, "poisson", np.random.default_rng(1))
    expected = RATE * SECONDS
    assert abs(len(offsets) - expected) < 4 * np.sqrt(expected)  # the count of a Poisson process: variance = mean
    assert offsets[0] >= 0
    assert offsets[-1] < SECONDS
    assert (np.diff(offsets) >= 0).all()


def test_poisson_gaps_are_exponential_and_independent() -> None:
    gaps = _gaps()
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.02)
    assert np.mean(gaps > 2 / RATE) == pytest.approx(np.exp(-2), rel=0.03)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.02


def test_the_count_in_a_second_varies_as_a_poisson_process() -> None:
    offsets = due_offsets(RATE, SECONDS, "poisson", np.random.default_rng(3))
    counts = np.bincount(offsets.astype(int), minlength=int(SECONDS))
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.25)


def test_a_seed_repeats_the_arrivals_and_another_does_not() -> None:
    assert np.array_equal(_gaps(5), _gaps(5))
    assert not np.array_equal(_gaps(5)[:10], _gaps(6)[:10])


def test_even_arrivals_are_equally_far_apart() -> None:
    offsets = due_offsets(4, 2, "even", np.random.default_rng(0))
    assert offsets.tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75])


def test_a_low_rate_may_have_no_arrival_at_all() -> None:
    assert len(due_offsets(1e-6, 0.001, "poisson", np.random.default_rng(0))) == 0
