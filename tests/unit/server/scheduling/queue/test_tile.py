"""Tests of tiles and batches."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from server.backends.base import Pixels, Result
from server.errors import BackendLost, WrongOutput
from server.scheduling.queue.tile import Batch, Completion, Tile, fail_soon, finite_images, settle, settle_soon

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]


def _tiles(*tiles: Pixels) -> list[Tile]:
    loop = asyncio.get_running_loop()
    return [Tile(pixels, loop.create_future(), enqueued_at=float(index)) for index, pixels in enumerate(tiles)]


def test_a_batch_of_one_is_stacked_without_a_copy(play: Play, make_pixels: MakePixels) -> None:
    async def scenario() -> None:
        (tile,) = _tiles(make_pixels(8, 16))
        stacked = Batch([tile], 0.0).stack()
        assert stacked.shape == (1, 3, 8, 16)
        assert np.shares_memory(stacked, tile.pixels)

    play(scenario())


def test_each_tile_gets_its_own_part_and_its_own_wait(play: Play, make_pixels: MakePixels) -> None:
    async def scenario() -> None:
        batch = Batch(_tiles(make_pixels(value=1), make_pixels(value=2)), 0.0)
        first, second = batch.outcomes(Result(batch.stack()), started_at=5.0, inference_s=0.25)
        assert isinstance(first, Completion)
        assert isinstance(second, Completion)
        assert (first.output == 1).all()
        assert (second.output == 2).all()
        assert (first.queue_s, second.queue_s) == (5.0, 4.0)
        assert (first.inference_s, first.batch_size) == (0.25, 2)

    play(scenario())


def test_each_tile_gets_its_own_auxiliary_output(play: Play, make_pixels: MakePixels) -> None:
    async def scenario() -> None:
        batch = Batch(_tiles(make_pixels(), make_pixels()), 0.0)
        aux = np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5)
        outcomes = batch.outcomes(Result(batch.stack(), aux), 0.0, 0.0)
        assert [outcome.aux[0, 0] for outcome in outcomes] == [0, 15]  # type: ignore[union-attr,index]
        (without, _) = batch.outcomes(Result(batch.stack()), 0.0, 0.0)
        assert without.aux is None  # type: ignore[union-attr]

    play(scenario())


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_fails_only_its_image(play: Play, make_pixels: MakePixels, poison: float) -> None:
    async def scenario() -> None:
        batch = Batch(_tiles(make_pixels(), make_pixels(), make_pixels()), 0.0)
        output = batch.stack()
        output[1, 2, 7, 7] = poison
        kinds = [type(outcome) for outcome in batch.outcomes(Result(output), 0.0, 0.0)]
        assert kinds == [Completion, WrongOutput, Completion]

    play(scenario())


def test_infinities_of_both_signs_do_not_cancel_out() -> None:
    output = np.zeros((2, 3, 8, 8), np.float32)
    output[0, 0, 0, :2] = np.inf, -np.inf
    assert finite_images(output) == [False, True]


@pytest.mark.parametrize(
    "output",
    [
        np.zeros((1, 3, 8, 8), np.float32),
        np.zeros((3, 3, 8, 8), np.float32),
        np.zeros((2, 3, 8, 16), np.float32),
        np.zeros((2, 3, 8, 8), np.float64),
        [1.0],
        None,
    ],
)
def test_a_wrong_count_shape_or_type_is_nobodys_answer(play: Play, make_pixels: MakePixels, output: Any) -> None:
    async def scenario() -> None:
        with pytest.raises(WrongOutput, match=r"instead of float32 \(2, 3, 8, 8\)"):
            Batch(_tiles(make_pixels(), make_pixels()), 0.0).outcomes(Result(output), 0.0, 0.0)

    play(scenario())


@pytest.mark.parametrize("count", [1, 3])
def test_an_auxiliary_output_of_another_count_is_nobodys(play: Play, make_pixels: MakePixels, count: int) -> None:
    async def scenario() -> None:
        batch = Batch(_tiles(make_pixels(), make_pixels()), 0.0)
        with pytest.raises(WrongOutput, match=f"of {count} images for 2"):
            batch.outcomes(Result(batch.stack(), np.zeros((count, 3, 5), np.float32)), 0.0, 0.0)

    play(scenario())


def test_a_batch_becomes_the_input_of_a_backend_without_a_copy(play: Play, make_pixels: MakePixels) -> None:
    async def scenario() -> None:
        (tile,) = _tiles(make_pixels(8, 16))
        given = Batch([tile], 0.0).model_input("fp32")
        assert np.shares_memory(given.pixels, tile.pixels)
        assert (given.shape, given.sizes, given.precision) == ((1, 3, 8, 16), None, "fp32")
        assert given.each_size.tolist() == [[8, 16]]

    play(scenario())


def test_the_first_end_of_a_tile_counts(play: Play, make_pixels: MakePixels) -> None:
    async def scenario() -> None:
        ended, cancelled = _tiles(make_pixels(), make_pixels())
        answer = Completion(make_pixels(), 0.0, 0.0, 1)
        settle([ended], [answer])
        cancelled.future.cancel()
        settle([ended, cancelled], [BackendLost("late"), BackendLost("late")])
        assert await ended.future is answer
        assert cancelled.future.cancelled()

    play(scenario())


def test_each_failed_tile_gets_its_own_exception(play: Play, make_pixels: MakePixels) -> None:
    async def scenario() -> None:
        tiles = _tiles(make_pixels(), make_pixels())
        fail_soon(tiles, lambda: BackendLost("gone"))
        one, other = await asyncio.gather(*(tile.future for tile in tiles), return_exceptions=True)
        assert isinstance(one, BackendLost)
        assert isinstance(other, BackendLost)
        assert one is not other

    play(scenario())


def test_settling_on_a_closed_loop_is_harmless(play: Play, make_pixels: MakePixels) -> None:
    async def scenario() -> list[Tile]:
        return _tiles(make_pixels())

    tiles = play(scenario())
    settle_soon(tiles, [BackendLost("nobody waits")])
    assert not tiles[0].future.done()


def test_a_deadline_is_passed_at_its_very_moment(play: Play, make_pixels: MakePixels) -> None:
    async def scenario() -> None:
        (tile,) = _tiles(make_pixels())
        assert not tile.expired(1e9)
        tile.deadline = 5.0
        assert not tile.expired(4.999)
        assert tile.expired(5.0)

    play(scenario())
