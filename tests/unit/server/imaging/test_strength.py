"""Tests of the strength of a restoration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import InvalidRequest
from server.imaging.strength import blend, check_strength

RNG = np.random.default_rng(0)
ORIGINAL = RNG.random((3, 5, 7), dtype=np.float32)
RESTORED = RNG.random((3, 5, 7), dtype=np.float32)


def test_strength_0_gives_the_input_and_strength_1_the_restoration_exactly() -> None:
    np.testing.assert_array_equal(blend(ORIGINAL, RESTORED, 0), ORIGINAL)
    np.testing.assert_array_equal(blend(ORIGINAL, RESTORED, 1), RESTORED)


@given(st.floats(0, 1))
def test_each_pixel_moves_by_the_fraction_of_the_strength(strength: float) -> None:
    expected = ORIGINAL + strength * (RESTORED - ORIGINAL)
    np.testing.assert_allclose(blend(ORIGINAL, RESTORED, strength), expected, atol=1e-6)


def test_outputs_outside_the_range_are_clipped() -> None:
    dark, glaring = np.zeros((3, 1, 1), np.float32), np.full((3, 1, 1), 3, np.float32)
    np.testing.assert_allclose(blend(dark, glaring, 0.5), 0.5)


def test_neither_input_is_changed() -> None:
    original, restored = ORIGINAL.copy(), RESTORED * 4 - 2
    untouched = restored.copy()
    blend(original, restored, 0.3)
    np.testing.assert_array_equal(original, ORIGINAL)
    np.testing.assert_array_equal(restored, untouched)


def test_a_crop_of_a_larger_array_is_blended_too() -> None:
    whole = blend(ORIGINAL, RESTORED, 0.25)
    part = blend(ORIGINAL[:, 1:4, 2:6], RESTORED[:, 1:4, 2:6], 0.25)
    np.testing.assert_allclose(part, whole[:, 1:4, 2:6], atol=1e-6)


@pytest.mark.parametrize("strength", [-0.1, 1.001, float("nan"), float("inf")])
def test_other_strengths_are_refused(strength: float) -> None:
    with pytest.raises(InvalidRequest, match="from 0 to 1"):
        check_strength(strength)


@pytest.mark.parametrize("strength", [0, 0.5, 1])
def test_strengths_in_range_are_returned(strength: float) -> None:
    assert check_strength(strength) == strength
