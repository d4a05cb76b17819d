"""Tests of the assembly of tiles."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.imaging import tiling
from server.imaging.assembly import Assembly, Samples
from server.imaging.tiling import Grid

MULTIPLE = 8
DTYPES = st.sampled_from([np.uint8, np.uint16])


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    tile = 32 * draw(st.integers(2, 5))
    height, width, overlap = draw(st.integers(1, 400)), draw(st.integers(1, 400)), draw(st.integers(0, tile // 4))
    return tiling.plan(height, width, MULTIPLE, tile=tile, overlap=overlap)


def samples_of(grid: Grid, dtype: type, seed: int = 0) -> Samples:
    shape = (3, grid.height, grid.width)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def planes(samples: Samples) -> np.ndarray:
    return np.multiply(samples, np.float32(1 / np.iinfo(samples.dtype).max), dtype=np.float32)


def noise(grid: Grid) -> list[np.ndarray]:
    """Generate independent results for the tiles, with values out of range."""
    rng = np.random.default_rng(1)
    shapes = [(3, tile.padded_height, tile.padded_width) for tile in grid]
    return [rng.normal(0.5, 0.4, shape).astype(np.float32) for shape in shapes]


@given(grids(), DTYPES, st.randoms())
def test_tiles_that_nothing_changed_give_the_image_back_to_the_bit(
    grid: Grid, dtype: type, random_order: random.Random
) -> None:
    samples = samples_of(grid, dtype)
    image = planes(samples)
    assembly = Assembly(grid, np.dtype(dtype))
    tiles = list(grid)
    random_order.shuffle(tiles)
    for tile in tiles:
        assembly.add(tile, tiling.cut(image, tile))
    np.testing.assert_array_equal(assembly.samples, samples)
    assert assembly.held_bytes == 0


@given(grids(), DTYPES, st.booleans(), st.randoms())
def test_the_order_in_which_tiles_come_changes_no_bit(
    grid: Grid, dtype: type, is_grey: bool, random_order: random.Random
) -> None:
    answers = list(zip(grid, noise(grid), strict=True))
    in_order, shuffled = Assembly(grid, np.dtype(dtype), is_grey), Assembly(grid, np.dtype(dtype), is_grey)
    for tile, answer in answers:
        in_order.add(tile, answer)
    random_order.shuffle(answers)
    for tile, answer in answers:
        shuffled.add(tile, answer)
    np.testing.assert_array_equal(in_order.samples, shuffled.samples)


@given(grids())
def test_each_pixel_is_the_weighted_mean_of_the_tiles_that_cover_it(grid: Grid) -> None:
    assembly = Assembly(grid, np.dtype(np.uint16))
    expected = np.zeros((3, grid.height, grid.width))
    for place, (tile, answer) in enumerate(zip(grid, noise(grid), strict=True)):
        assembly.add(tile, answer)
        row, column = divmod(place, len(grid.horizontal.starts))
        weights = np.outer(full_weights(grid.vertical, row), full_weights(grid.horizontal, column))
        expected[:, tile.rows, tile.columns] += tiling.crop(answer, tile) * weights[tile.rows, tile.columns]
    np.testing.assert_allclose(assembly.samples / 65535, np.clip(expected, 0, 1), atol=1 / 65535)


def full_weights(axis: tiling.Axis, index: int) -> np.ndarray:
    weights = np.zeros(axis.length)
    for span in axis.spans:
        if index in span.tiles:
            weights[span.start : span.stop] = axis.weights(span, index)
    return weights


def test_only_seams_are_held_and_only_until_their_last_tile() -> None:
    grid = tiling.plan(480, 1920, MULTIPLE, tile=128, overlap=16)
    assembly = Assembly(grid, np.dtype(np.uint8))
    row_of_seams = 3 * 16 * grid.width * 4
    most = 0
    for tile in grid:
        assembly.add(tile, np.zeros((3, tile.padded_height, tile.padded_width), np.float32))
        most = max(most, assembly.held_bytes)
    assert 0 < most < 1.5 * row_of_seams
    assert assembly.held_bytes == 0


def test_a_grey_image_has_one_channel_the_mean_of_the_planes() -> None:
    grid = tiling.plan(8, 16, MULTIPLE)
    assembly = Assembly(grid, np.dtype(np.uint8), is_grey=True)
    (tile,) = grid
    assembly.add(tile, np.stack([np.full((8, 16), value, np.float32) for value in (0.1, 0.2, 0.6)]))
    np.testing.assert_array_equal(assembly.samples, np.full((1, 8, 16), round(0.3 * 255), np.uint8))


def test_nothing_is_given_out_while_a_tile_is_missing() -> None:
    grid = tiling.plan(8, 200, MULTIPLE, tile=128)
    assembly = Assembly(grid, np.dtype(np.uint8))
    first, second = grid
    answer = np.zeros((3, first.padded_height, first.padded_width), np.float32)
    assembly.add(first, answer)
    assert assembly.missing == 1
    with pytest.raises(RuntimeError, match="1 of 2 tiles"):
        _ = assembly.samples
    assembly.add(second, answer)
    assert assembly.missing == 0


def test_a_tile_that_came_already_is_refused() -> None:
    grid = tiling.plan(8, 200, MULTIPLE, tile=128)
    assembly = Assembly(grid, np.dtype(np.uint8))
    tile = next(iter(grid))
    assembly.add(tile, np.zeros((3, tile.padded_height, tile.padded_width), np.float32))
    with pytest.raises(KeyError):
        assembly.add(tile, np.ones((3, tile.padded_height, tile.padded_width), np.float32))


def test_tiles_may_come_from_several_threads_at_once() -> None:
    grid = tiling.plan(400, 400, MULTIPLE, tile=64, overlap=16)
    samples = samples_of(grid, np.uint16)
    image = planes(samples)
    assembly = Assembly(grid, np.dtype(np.uint16))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda tile: assembly.add(tile, tiling.cut(image, tile)), grid))
    np.testing.assert_array_equal(assembly.samples, samples)
