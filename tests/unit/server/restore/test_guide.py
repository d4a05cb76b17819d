"""Tests of the guide: what a photo in tiles looks like next to its whole frame."""

import itertools
import random
import subprocess
import sys
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.backends.base import Pixels
from server.imaging import tiling
from server.imaging.assembly import Assembly
from server.imaging.strength import blend
from server.imaging.tiling import Grid
from server.restore.guide import MOST_SQUEEZE, Guide

MULTIPLE = 8
Network = Callable[[Pixels], Pixels]

LEVEL = np.float32(1 / 255)
a_few = settings(deadline=None, max_examples=25)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    tile = 32 * draw(st.integers(2, 5))
    height, width, overlap = draw(st.integers(1, 400)), draw(st.integers(170, 400)), draw(st.integers(0, tile // 4))
    return tiling.plan(height, width, MULTIPLE, tile=tile, overlap=overlap, guided=True)


def scene(grid: Grid, seed: int = 0) -> Pixels:
    """Broad shapes and fine grain, (3, H, W)."""
    rng = np.random.default_rng(seed)
    shapes = rng.uniform(0.2, 0.8, (3, 4, 5)).astype(np.float32)
    broad = np.stack([cv2.resize(plane, (grid.width, grid.height), interpolation=cv2.INTER_LINEAR) for plane in shapes])
    grainy = np.clip(broad + rng.normal(0, 0.05, broad.shape), 0, 1)
    return (np.rint(grainy * 65535) / 65535).astype(np.float32)  # as samples of 16 bits are


def guide_of(image: Pixels, grid: Grid, network: Network) -> Guide:
    guide = Guide(grid)
    guide.take(network(guide.reduce(lambda rows, columns: image[:, rows, columns])))
    return guide


def restored(
    image: Pixels,
    grid: Grid,
    network: Network,
    guide: Guide | None,
    seed: int | None = None,
    dtype: type = np.float32,
    strength: float = 1.0,
) -> Pixels:
    """The photo in tiles, in order or in one drawn by `seed`, as samples of `dtype`."""
    assembly, tiles = Assembly(grid, np.dtype(dtype)), list(grid)
    if seed is not None:
        random.Random(seed).shuffle(tiles)
    for tile in tiles:
        pixels = tiling.cut(image, tile)
        answer = network(pixels)
        if guide is not None:
            guide.note(tile, pixels, answer)
        is_last = assembly.add(tile, blend(pixels, answer, strength))
        assert is_last == (tile == tiles[-1])
    if guide is not None:
        guide.settle(assembly.pixels, strength)
    return assembly.pixels


def in_patches(strong: float) -> Network:
    """A network that adds what the tile's number in order of its calls says: two levels of tone in turn, or none."""
    calls = itertools.count()
    return lambda pixels: pixels + np.float32(strong * LEVEL * (next(calls) % 2))


def moody(pixels: Pixels) -> Pixels:
    """A network that decides tone by all it sees, as one that removes haze does: it moves the mean to the middle."""
    return pixels + np.float32(0.8) * (np.float32(0.5) - pixels.mean(axis=(1, 2), keepdims=True))


def ramp(grid: Grid) -> Pixels:
    """Dark at the left and bright at the right, so that no two columns of tiles have one mean."""
    line = np.linspace(0.2, 0.8, grid.width, dtype=np.float32)
    return np.ascontiguousarray(np.broadcast_to(line, (3, grid.height, grid.width)))


@a_few
@given(grids())
def test_a_network_that_changes_nothing_gives_the_photo_back(grid: Grid) -> None:
    image = scene(grid)
    answer = restored(image, grid, lambda pixels: pixels, guide_of(image, grid, lambda pixels: pixels))
    np.testing.assert_array_equal(np.rint(answer * 65535), np.rint(image * 65535))


@a_few
@given(grids())
def test_a_tone_that_all_runs_agree_on_stays_theirs(grid: Grid) -> None:
    brighter: Network = lambda pixels: pixels + np.float32(0.1)  # noqa: E731
    image = scene(grid) * np.float32(0.8)
    answer = restored(image, grid, brighter, guide_of(image, grid, brighter))
    np.testing.assert_allclose(answer, image + np.float32(0.1), atol=1e-5)


@a_few
@given(grids(), st.integers(0, 100), st.sampled_from([np.float32, np.uint8, np.uint16]), st.sampled_from([0.4, 1.0]))
def test_the_order_of_tiles_changes_no_bit(grid: Grid, seed: int, dtype: type, strength: float) -> None:
    image = scene(grid)
    in_order = restored(image, grid, moody, guide_of(image, grid, moody), None, dtype, strength)
    shuffled = restored(image, grid, moody, guide_of(image, grid, moody), seed, dtype, strength)
    np.testing.assert_array_equal(in_order, shuffled, strict=True)


def test_tiles_that_disagree_on_tone_take_that_of_the_whole_frame() -> None:
    grid = tiling.plan(500, 900, MULTIPLE, tile=160, guided=True)
    image = ramp(grid)
    whole, alone = moody(image), restored(image, grid, moody, None)
    toned = restored(image, grid, moody, guide_of(image, grid, moody))
    assert np.abs(alone - whole).max() > 50 * LEVEL
    assert np.abs(toned - whole).max() < 0.5 * LEVEL


def test_fine_detail_is_that_of_the_tiles() -> None:
    """The guide cannot have it: its frame is an eighth as wide."""
    grid = tiling.plan(512, 512, MULTIPLE, tile=64, guided=True)
    image = scene(grid)
    checks = np.float32(0.05) * (np.indices((8, 8), np.float32).sum(axis=0) % 2 * 2 - 1)

    def sharpening(pixels: Pixels) -> Pixels:
        return moody(pixels) + np.tile(checks, (pixels.shape[1] // 8, pixels.shape[2] // 8))

    answer = restored(image, grid, sharpening, guide_of(image, grid, moody))
    wanted = sharpening(image)
    assert np.abs(np.clip(wanted, 0, 1) - answer).max() < 3 * LEVEL


def test_tiles_that_agree_keep_their_tone_whatever_the_frame_says() -> None:
    """The reduced frame has less noise and is answered otherwise than the photo itself."""
    grid = tiling.plan(500, 900, MULTIPLE, tile=160, guided=True)
    image = scene(grid) * np.float32(0.8)
    guide = guide_of(image, grid, lambda pixels: pixels + 10 * LEVEL)
    answer = restored(image, grid, lambda pixels: pixels + 2 * LEVEL, guide)
    np.testing.assert_allclose(answer, image + 2 * LEVEL, atol=0.01 * LEVEL)


@pytest.mark.parametrize(("strong", "taken"), [(0.5, 0.0), (50.0, 1.0)])
def test_the_more_tiles_disagree_the_more_the_frame_counts(strong: float, taken: float) -> None:
    grid = tiling.plan(96, 900, MULTIPLE, tile=160, guided=True)
    image = np.full((3, grid.height, grid.width), 0.2, np.float32)
    guide = guide_of(image, grid, lambda pixels: pixels + 100 * LEVEL)
    change = (restored(image, grid, in_patches(strong), guide) - image).mean() / LEVEL
    alone = (restored(image, grid, in_patches(strong), None) - image).mean() / LEVEL
    assert change == pytest.approx(alone + taken * (100 - alone), abs=1.5)


@pytest.mark.parametrize(("strong", "gain"), [(0.5, 1.0), (50.0, 1.5)])
def test_local_contrast_follows_the_frame_where_tiles_disagree(strong: float, gain: float) -> None:
    grid = tiling.plan(300, 900, MULTIPLE, tile=160, guided=True)
    rows, columns = np.indices((grid.height, grid.width), np.float32) * np.float32(2 * np.pi / 48)
    texture = np.float32(0.05) * np.sin(rows) * np.sin(columns)
    image = np.stack([0.4 + texture] * 3).astype(np.float32)
    guide = guide_of(image, grid, lambda pixels: (pixels - np.float32(0.4)) * np.float32(1.5) + np.float32(0.4))
    answer = restored(image, grid, in_patches(strong), guide)
    inner = (slice(48, -48), slice(48, -48))
    slope = (answer[0][inner] * texture[inner]).sum() / np.square(texture[inner]).sum()
    assert slope == pytest.approx(gain, rel=0.05)


@pytest.mark.parametrize("overlap", [0, 16, 40])
def test_a_step_too_small_for_the_frame_is_spread_over_half_a_tile_to_both_sides(overlap: int) -> None:
    grid = tiling.plan(300, 900, MULTIPLE, tile=160, overlap=overlap, guided=True)
    image = np.full((3, grid.height, grid.width), 0.5, np.float32)
    steps = []
    for guide in (None, guide_of(image, grid, lambda pixels: pixels)):
        change = (restored(image, grid, in_patches(1.5), guide) - image) / LEVEL
        steps.append(
            max(np.abs(change[:, :, 48:] - change[:, :, :-48]).max(), np.abs(np.diff(change[:, ::48], axis=1)).max())
        )
    assert steps[0] == pytest.approx(1.5, abs=0.01)
    assert steps[1] < 0.9


def test_a_slope_is_followed_to_the_border_of_a_tile() -> None:
    """A plain blur would fall behind there, and two tiles would do so in opposite directions."""
    grid = tiling.plan(96, 900, MULTIPLE, tile=160, guided=True)
    image = np.full((3, grid.height, grid.width), 0.8, np.float32)
    slope = np.linspace(-0.1, -0.6, grid.width, dtype=np.float32)
    guide = Guide(grid)
    reduced = guide.reduce(lambda rows, columns: image[:, rows, columns])
    wide = cv2.resize(slope[None], (guide.tile.width, 1), interpolation=cv2.INTER_AREA)
    guide.take(reduced + np.pad(wide, ((0, 0), (0, guide.tile.padded_width - guide.tile.width)))[None])
    answer = restored(image, grid, in_patches(50.0), guide)
    np.testing.assert_allclose(answer, image + slope, atol=0.5 * LEVEL)


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_tone_is_corrected_by_the_strength_of_the_restoration(strength: float) -> None:
    grid = tiling.plan(500, 900, MULTIPLE, tile=160, guided=True)
    image = ramp(grid)
    answer = restored(image, grid, moody, guide_of(image, grid, moody), strength=strength)
    np.testing.assert_allclose(answer, blend(image, moody(image), strength), atol=0.5 * LEVEL)


def test_an_answer_in_grey_is_corrected_by_the_mean_of_the_planes() -> None:
    grid = tiling.plan(500, 900, MULTIPLE, tile=160, guided=True)
    image = ramp(grid)
    colours, guide = guide_of(image, grid, moody), guide_of(image, grid, moody)
    wanted = restored(image, grid, moody, colours)
    assembly = Assembly(grid, np.dtype(np.float32), is_grey=True)
    for tile in grid:
        pixels = tiling.cut(image, tile)
        guide.note(tile, pixels, moody(pixels))
        assembly.add(tile, moody(pixels))
    guide.settle(assembly.pixels)
    np.testing.assert_allclose(assembly.pixels, wanted.mean(axis=0, keepdims=True), atol=1e-5)


def test_values_out_of_range_count_as_what_a_file_can_hold() -> None:
    grid = tiling.plan(96, 400, MULTIPLE, tile=160, guided=True)
    image = np.full((3, grid.height, grid.width), 0.5, np.float32)
    glaring: Network = lambda pixels: np.full_like(pixels, 3.0)  # noqa: E731
    assert np.all(restored(image, grid, glaring, guide_of(image, grid, lambda pixels: pixels)) == 1)


@a_few
@given(grids())
def test_the_frame_is_reduced_by_area_averaging_to_a_run_like_any_other(grid: Grid) -> None:
    image, guide = scene(grid), Guide(grid)
    reduced = guide.reduce(lambda rows, columns: image[:, rows, columns])
    assert (reduced.shape, reduced.dtype) == ((3, *grid.tile_shape), np.float32)
    height, width = guide.tile.height, guide.tile.width
    assert height <= min(grid.height, grid.tile_shape[0])
    assert width <= min(grid.width, grid.tile_shape[1])
    np.testing.assert_allclose(reduced[:, :height, :width].mean(axis=(1, 2)), image.mean(axis=(1, 2)), atol=1e-4)


def test_the_frame_is_only_ever_float_in_bands() -> None:
    grid = tiling.plan(3000, 4000, MULTIPLE, tile=512, guided=True)
    largest = 0

    def crop(rows: slice, columns: slice) -> Pixels:
        nonlocal largest
        pixels = np.zeros((3, rows.stop - rows.start, columns.stop - columns.start), np.float32)
        largest = max(largest, pixels.nbytes)
        return pixels

    Guide(grid).reduce(crop)
    assert largest < 4 * 2**20


@pytest.mark.parametrize(("height", "width"), [(500, 6000), (64, 16_384), (6000, 500), (4000, 6000), (2049, 512)])
def test_no_side_is_squeezed_much_more_than_the_other(height: int, width: int) -> None:
    guide = Guide(tiling.plan(height, width, MULTIPLE, tile=512, guided=True))
    tall, wide = height / guide.tile.height, width / guide.tile.width
    assert max(tall, wide) <= 1.1 * MOST_SQUEEZE * min(tall, wide)


def test_tiles_no_larger_than_one_pixel_of_the_reduced_frame_are_in_one_tone_too() -> None:
    grid = tiling.plan(130, 80 * 64 + 3, MULTIPLE, tile=64, guided=True)
    waves = np.float32(0.5) + np.float32(0.25) * np.sin(np.arange(grid.width, dtype=np.float32) / 200)
    image = np.ascontiguousarray(np.broadcast_to(waves, (3, grid.height, grid.width)))
    guide = guide_of(image, grid, moody)
    assert grid.width / guide.tile.width > 64
    assert np.abs(restored(image, grid, moody, None) - moody(image)).max() > 40 * LEVEL
    assert np.abs(restored(image, grid, moody, guide) - moody(image)).max() < 6 * LEVEL


def test_products_survive_want_of_memory_once_their_workspace_is_there() -> None:
    code = """
import resource, threading, numpy as np
from server.formats import codec
from server.restore import guide

codec.silence_decoder_messages()
guide.reserve_workspace()
tall, square = np.ones((512, 160), np.float32), np.ones((160, 160), np.float32)
is_short = threading.Event()

def work():
    is_short.wait()
    for _ in range(20):
        guide._product(tall, square, tall)

threads = [threading.Thread(target=work) for _ in range(2)]
[thread.start() for thread in threads]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 12 * 2**20, -1))
is_short.set()
[thread.join() for thread in threads]
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
