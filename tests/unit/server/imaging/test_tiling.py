"""Tests of tiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.imaging import tiling

SIDES = st.integers(1, 40)
MULTIPLE = 8


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((3, height, width), dtype=np.float32)


@given(SIDES, SIDES)
def test_cut_and_crop_give_the_image_back_exactly(height: int, width: int) -> None:
    image = pixels(height, width)
    (tile,) = tiling.plan(height, width, MULTIPLE)
    padded = tiling.cut(image, tile)
    assert padded.shape == (3, tile.padded_height, tile.padded_width)
    np.testing.assert_array_equal(tiling.crop(padded, tile), image)


@given(SIDES, SIDES)
def test_a_tile_is_the_smallest_that_the_network_takes(height: int, width: int) -> None:
    (tile,) = tiling.plan(height, width, MULTIPLE)
    for side, padded in ((height, tile.padded_height), (width, tile.padded_width)):
        assert padded % MULTIPLE == 0
        assert side <= padded < side + MULTIPLE


def test_the_padding_mirrors_the_last_rows_and_columns() -> None:
    image = pixels(6, 8)
    (tile,) = tiling.plan(6, 8, MULTIPLE)
    padded = tiling.cut(image, tile)
    np.testing.assert_array_equal(padded[:, 6], image[:, 4])
    np.testing.assert_array_equal(padded[:, 7], image[:, 3])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 8), (8, 1), (2, 3)])
def test_a_side_shorter_than_its_padding_is_filled_from_the_image_alone(height: int, width: int) -> None:
    image = pixels(height, width)
    (tile,) = tiling.plan(height, width, MULTIPLE)
    assert np.isin(tiling.cut(image, tile), image).all()


def test_an_image_that_fits_is_not_copied() -> None:
    image = pixels(16, 24)
    (tile,) = tiling.plan(16, 24, MULTIPLE)
    assert np.shares_memory(tiling.cut(image, tile), image)


def test_a_tile_counts_the_pixels_that_a_run_holds() -> None:
    (tile,) = tiling.plan(7, 9, MULTIPLE)
    assert tile.padded_pixels == 8 * 16
