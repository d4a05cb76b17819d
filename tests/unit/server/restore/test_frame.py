"""Tests of the Frame: pixels of a tensor through a grid and back."""

import numpy as np
import pytest

from server.formats.codec import Image
from server.imaging import tiling
from server.restore.frame import Frame

HEIGHT, WIDTH = 70, 101


def noise(dtype: type) -> np.ndarray:
    samples = np.random.default_rng(1).integers(0, 256, (3, HEIGHT, WIDTH), np.uint8)
    return samples if dtype is np.uint8 else (samples / 255).astype(np.float32)


@pytest.mark.parametrize("side", [None, 64], ids=["whole", "tiled"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_an_identity_restores_is_what_was_sent(dtype: type, side: int | None) -> None:
    pixels = noise(dtype)
    grid = tiling.plan(HEIGHT, WIDTH, 8, tile=side)
    frame = Frame(pixels, grid)
    for tile in grid:
        cut = frame.cut(tile)
        assert (cut.dtype, cut.shape) == (np.float32, (3, *grid.tile_shape))
        frame.add(tile, cut, cut)
    assert frame.restored.dtype == dtype
    np.testing.assert_allclose(frame.restored, pixels, atol=0 if dtype is np.uint8 else 1e-6)


def test_bytes_are_cut_to_the_very_floats_of_an_image() -> None:
    pixels = noise(np.uint8)
    tile = next(iter(tiling.plan(HEIGHT, WIDTH, 8)))
    expected = tiling.pad(Image(tuple(pixels), None).crop(tile.rows, tile.columns), tile)
    np.testing.assert_array_equal(Frame(pixels, tiling.plan(HEIGHT, WIDTH, 8)).cut(tile), expected)


def test_a_tile_is_a_copy_that_may_come_from_read_only_unaligned_bytes() -> None:
    raw = b"x" + noise(np.float32).tobytes()
    pixels = np.frombuffer(raw, np.float32, offset=1).reshape(3, HEIGHT, WIDTH)
    grid = tiling.plan(72, 104, 8)
    tile = next(iter(tiling.plan(HEIGHT, WIDTH, 1)))
    cut = Frame(pixels, grid).cut(tile)
    assert cut.flags.writeable
    assert cut.flags.aligned
    assert not np.shares_memory(cut, pixels)


def test_floats_are_clipped_and_blended() -> None:
    pixels = np.full((3, 8, 8), 0.5, np.float32)
    grid = tiling.plan(8, 8, 8)
    tile = next(iter(grid))
    whole, half = Frame(pixels, grid), Frame(pixels, grid, strength=0.5)
    for frame in (whole, half):
        frame.add(tile, frame.cut(tile), np.full((3, 8, 8), 1.5, np.float32))
    assert np.all(whole.restored == 1)
    assert np.all(half.restored == 0.75)
