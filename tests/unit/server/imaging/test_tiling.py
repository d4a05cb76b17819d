"""Tests of tiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.backends.base import ModelSpec, SizeRange
from server.errors import InvalidRequest
from server.imaging import tiling
from server.imaging.tiling import DEFAULT_OVERLAP, DEFAULT_TILE, Grid

SIDES = st.integers(1, 40)
MULTIPLE = 8


@st.composite
def tilings(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """Generate height, width, multiple, tile and overlap for images of up to 900 pixels a side."""
    multiple = draw(st.sampled_from([1, 2, 8, 16]))
    step = 4 * multiple
    tile = step * draw(st.integers(64 // step, 320 // step))
    overlap = draw(st.integers(0, tile // 4))
    return draw(st.integers(1, 900)), draw(st.integers(1, 900)), multiple, tile, overlap


def planned(tiling_of: tuple[int, int, int, int, int]) -> Grid:
    height, width, multiple, tile, overlap = tiling_of
    return tiling.plan(height, width, multiple, tile=tile, overlap=overlap)


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((3, height, width), dtype=np.float32)


@given(SIDES, SIDES)
def test_cutting_and_cropping_restore_the_image_exactly(height: int, width: int) -> None:
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
def test_a_side_shorter_than_its_padding_is_filled_with_its_own_pixels(height: int, width: int) -> None:
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


@given(tilings())
def test_the_tiles_cover_the_image_and_nothing_else(tiling_of: tuple[int, int, int, int, int]) -> None:
    grid = planned(tiling_of)
    covered = np.zeros((grid.height, grid.width), np.int32)
    for tile in grid:
        assert tile.top >= 0
        assert tile.left >= 0
        covered[tile.rows, tile.columns] += 1
    assert covered.min() >= 1
    assert sum(tile.height * tile.width for tile in grid) == covered.sum()


@given(tilings())
def test_all_tiles_have_one_shape_within_the_requested_size(tiling_of: tuple[int, int, int, int, int]) -> None:
    _, _, multiple, side, _ = tiling_of
    grid = planned(tiling_of)
    ((height, width),) = {(tile.padded_height, tile.padded_width) for tile in grid}
    assert max(height, width) <= side
    assert height % multiple == width % multiple == 0


@given(tilings())
def test_only_the_last_tiles_are_padded_and_by_less_than_the_multiple(
    tiling_of: tuple[int, int, int, int, int],
) -> None:
    multiple = tiling_of[2]
    grid = planned(tiling_of)
    for tile in grid:
        below, beside = tile.padded_height - tile.height, tile.padded_width - tile.width
        assert 0 <= below < multiple
        assert 0 <= beside < multiple
        assert below == 0 or tile.top + tile.height == grid.height
        assert beside == 0 or tile.left + tile.width == grid.width


@given(tilings())
def test_tiles_begin_at_multiples_of_the_network(tiling_of: tuple[int, int, int, int, int]) -> None:
    multiple = tiling_of[2]
    assert all(tile.top % multiple == tile.left % multiple == 0 for tile in planned(tiling_of))


@given(tilings())
def test_neighbours_share_at_least_the_overlap(tiling_of: tuple[int, int, int, int, int]) -> None:
    overlap = tiling_of[4]
    grid = planned(tiling_of)
    for axis in (grid.vertical, grid.horizontal):
        steps = np.diff(axis.starts)
        assert (steps > 0).all()
        assert (axis.side - steps >= overlap).all()


@given(tilings())
def test_the_weights_of_the_tiles_sum_to_exactly_one_in_every_pixel(
    tiling_of: tuple[int, int, int, int, int],
) -> None:
    grid = planned(tiling_of)
    total = np.zeros((grid.height, grid.width), np.float32)
    for rows in grid.vertical.spans:
        for row in rows.tiles:
            for columns in grid.horizontal.spans:
                for column in columns.tiles:
                    weights = np.outer(grid.vertical.weights(rows, row), grid.horizontal.weights(columns, column))
                    assert weights.min() >= 0
                    total[rows.start : rows.stop, columns.start : columns.stop] += weights
    np.testing.assert_array_equal(total, 1)


@given(tilings())
def test_spans_follow_one_another_and_lie_inside_their_tiles(tiling_of: tuple[int, int, int, int, int]) -> None:
    grid = planned(tiling_of)
    for axis in (grid.vertical, grid.horizontal):
        assert [span.start for span in axis.spans] == [0, *(span.stop for span in axis.spans[:-1])]
        assert axis.spans[-1].stop == axis.length
        for span in axis.spans:
            for index in span.tiles:
                assert axis.starts[index] <= span.start < span.stop <= axis.starts[index] + axis.side


def test_the_weight_of_a_tile_falls_evenly_across_the_seam_to_its_neighbour() -> None:
    axis = tiling.plan(8, 240, MULTIPLE, tile=128, overlap=16).horizontal
    (seam,) = (span for span in axis.spans if span.first != span.last)
    falling, rising = axis.weights(seam, 0), axis.weights(seam, 1)
    np.testing.assert_allclose(np.diff(falling), -1 / 16, atol=1e-3)
    np.testing.assert_allclose(falling, rising[::-1], atol=1e-3)


def test_an_image_within_the_budget_stays_whole() -> None:
    grid = tiling.plan(1024, 2048, MULTIPLE, max_pixels=1024 * 2048)
    assert grid.is_whole
    assert len(grid) == 1


def test_an_image_that_exceeds_the_budget_only_with_padding_is_tiled() -> None:
    assert not tiling.plan(1023, 1023, MULTIPLE, max_pixels=1024 * 1024 - 1).is_whole


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(64 * 64, 2**21))
def test_no_tile_holds_more_pixels_than_the_budget(height: int, width: int, max_pixels: int) -> None:
    grid = tiling.plan(height, width, MULTIPLE, max_pixels)
    assert max(tile.padded_pixels for tile in grid) <= max_pixels


def test_a_requested_tile_size_divides_an_image_that_would_fit() -> None:
    grid = tiling.plan(256, 256, MULTIPLE, max_pixels=2**20, tile=128, overlap=0)
    assert len(grid) == 4


def test_an_image_no_larger_than_the_requested_tile_stays_whole() -> None:
    assert tiling.plan(100, 128, MULTIPLE, max_pixels=2**20, tile=128).is_whole


def test_a_24_megapixel_photo_is_cut_by_the_defaults() -> None:
    grid = tiling.plan(4000, 6000, MULTIPLE, max_pixels=2**21)
    tile = next(iter(grid))
    assert max(tile.padded_height, tile.padded_width) <= DEFAULT_TILE
    assert all((axis.side - np.diff(axis.starts) >= DEFAULT_OVERLAP).all() for axis in (grid.vertical, grid.horizontal))


def test_tiles_are_no_larger_than_necessary_to_cover_the_image() -> None:
    grid = tiling.plan(128, 520, MULTIPLE, tile=512, overlap=32)
    assert [tile.padded_width for tile in grid] == [288, 288]


@pytest.mark.parametrize("tile", [-128, 0, 32, 100, 513, 1056, 4096])
def test_an_impossible_tile_size_is_refused_with_the_allowed_ones(tile: int) -> None:
    with pytest.raises(InvalidRequest, match="multiple of 32 from 64 to 1024"):
        tiling.plan(3000, 3000, MULTIPLE, max_pixels=1024 * 1024, tile=tile)


@pytest.mark.parametrize("overlap", [-1, 65, 128, 1000])
def test_an_overlap_of_more_than_a_quarter_of_the_tile_is_refused(overlap: int) -> None:
    with pytest.raises(InvalidRequest, match="from 0 to 64"):
        tiling.plan(3000, 3000, MULTIPLE, tile=256, overlap=overlap)


@pytest.mark.parametrize("overlap", [-1, 129])
def test_a_requested_overlap_is_checked_for_a_whole_image_too(overlap: int) -> None:
    with pytest.raises(InvalidRequest, match="from 0 to 128"):
        tiling.plan(64, 64, MULTIPLE, max_pixels=2**21, overlap=overlap)


@pytest.mark.parametrize(
    ("size", "ranges", "tile"),
    [
        ((4096, 400), (), None),
        ((4090, 400), (SizeRange((8, 8), (720, 5824)),), DEFAULT_TILE),
        ((400, 4090), (SizeRange((8, 8), (720, 5824)),), None),
        ((300, 1000), (SizeRange((8, 8), (256, 256)),), 256),
        ((8, 1000), (SizeRange((64, 64), (512, 512)),), None),  # too low for any tile, so that its run is refused
        ((3000, 3000), (SizeRange((8, 8), (512, 512)),), None),  # is in tiles anyway
    ],
)
def test_an_image_that_the_model_does_not_take_whole_gets_tiles_that_it_takes(
    size: tuple[int, int], ranges: tuple[SizeRange, ...], tile: int | None
) -> None:
    model = ModelSpec("none", "fp16", MULTIPLE, size_ranges=ranges)
    assert tiling.fitting_tile(*size, model, 2_097_152) == tile
    if tile is not None:
        grid = tiling.plan(*size, MULTIPLE, 2_097_152, tile)
        assert not grid.is_whole
        assert model.takes(*grid.tile_shape)
