"""Tests of the TileQueue."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from server.backends.base import Pixels
from server.errors import BackendLost, Draining, NotReady
from server.scheduling.queue.tile import Priority, Tile
from server.scheduling.queue.tile_queue import Taken, TileQueue

MakePixels = Callable[..., Pixels]
ANY_NUMBER = 1_000_000_000
LATER = 1e9


@pytest.fixture
def make(make_pixels: MakePixels) -> Any:
    """Make tiles; their futures belong to a loop that never runs."""
    loop = asyncio.new_event_loop()
    try:
        yield lambda height=8, width=8, at=0.0, deadline=None, priority=Priority.INTERACTIVE: Tile(
            make_pixels(height, width), loop.create_future(), at, deadline, priority
        )
    finally:
        loop.close()


def _open_queue(max_pixels: int = ANY_NUMBER) -> TileQueue:
    queue = TileQueue(max_pixels)
    queue.open()
    return queue


def _take(queue: TileQueue, like: Tile, count: int = ANY_NUMBER, now: float = 0.0, **options: Any) -> Taken:
    """Take from the bucket of a tile."""
    bucket = queue.bucket(like.padded_shape)
    return Taken() if bucket is None else queue.take(bucket, count, now, "cuda:0", **options)


def test_tiles_of_one_shape_leave_together_in_the_order_they_came(make: Any) -> None:
    queue = _open_queue()
    tiles = [make(at=index) for index in range(3)]
    assert all(queue.offer(tile) for tile in tiles)
    assert _take(queue, tiles[0]).tiles == tiles
    assert (queue.tiles, queue.pixels, len(queue.buckets)) == (0, 0, 0)


def test_turned_shapes_of_equal_area_do_not_mix(make: Any) -> None:
    queue = _open_queue()
    wide, tall = make(8, 16, at=1), make(16, 8, at=2)
    for tile in (wide, tall):
        queue.offer(tile)
    assert [_take(queue, wide).tiles, _take(queue, tall).tiles] == [[wide], [tall]]


def test_a_take_stops_at_its_count(make: Any) -> None:
    queue = _open_queue()
    tiles = [make(at=index) for index in range(3)]
    for tile in tiles:
        queue.offer(tile)
    assert _take(queue, tiles[0], 2).tiles == tiles[:2]
    assert (queue.tiles, queue.pixels) == (1, 64)


def test_the_earliest_deadline_leaves_first_and_before_those_without_one(make: Any) -> None:
    queue = _open_queue()
    none, late, early = make(at=0), make(at=1, deadline=0.2), make(at=2, deadline=0.1)
    for tile in (none, late, early):
        queue.offer(tile)
    assert _take(queue, none).tiles == [early, late, none]


def test_a_far_deadline_does_not_put_a_tile_before_those_that_waited_long(make: Any) -> None:
    queue = _open_queue()
    patient, fresh = make(at=0, deadline=60.0), make(at=1)
    for tile in (patient, fresh):
        queue.offer(tile)
    assert _take(queue, patient).tiles == [fresh, patient]


def test_interactive_tiles_leave_first_and_batch_tiles_fill_up(make: Any) -> None:
    queue = _open_queue()
    batch = [make(at=index, deadline=5.0 + index, priority=Priority.BATCH) for index in range(3)]
    interactive = [make(at=5), make(at=6)]
    for tile in batch + interactive:
        queue.offer(tile)
    assert _take(queue, batch[0], 4).tiles == interactive + batch[:2]


def test_a_run_may_be_given_to_the_batch_class_first(make: Any) -> None:
    queue = _open_queue()
    batch, interactive = make(priority=Priority.BATCH), make()
    for tile in (interactive, batch):
        queue.offer(tile)
    assert _take(queue, batch, batch_first=True).tiles == [batch, interactive]


def test_the_bound_on_pixels_refuses_what_would_exceed_it(make: Any) -> None:
    queue = _open_queue(max_pixels=3 * 64)
    assert [queue.offer(make()), queue.offer(make(8, 24)), queue.offer(make(8, 16))] == [True, False, True]
    assert queue.pixels == 3 * 64


def test_an_empty_queue_takes_a_tile_of_any_size(make: Any) -> None:
    assert _open_queue(max_pixels=1).offer(make(64, 64))


def test_a_discarded_tile_frees_its_place(make: Any) -> None:
    queue = _open_queue(max_pixels=64)
    tile = make()
    queue.offer(tile)
    assert queue.discard(tile)
    assert not queue.discard(tile)
    assert queue.offer(make())


def test_a_tile_whose_caller_left_is_dropped_on_the_way(make: Any) -> None:
    queue = _open_queue()
    gone, here = make(at=0), make(at=1)
    queue.offer(gone)
    queue.offer(here)
    gone.future.cancel()
    taken = _take(queue, here, 1)
    assert (taken.tiles, taken.expired) == ([here], [])
    assert not gone.taken


def test_expired_tiles_are_set_apart_and_do_not_use_up_the_batch(make: Any) -> None:
    queue = _open_queue()
    stale, fresh = make(at=0, deadline=5.0), make(at=1, deadline=6.0)
    queue.offer(stale)
    queue.offer(fresh)
    taken = _take(queue, fresh, 1, now=5.0)
    assert (taken.tiles, taken.expired) == ([fresh], [stale])


def test_nothing_is_admitted_before_the_queue_opens_or_after_it_closes(make: Any) -> None:
    queue = TileQueue(ANY_NUMBER)
    with pytest.raises(NotReady):
        queue.offer(make())
    queue.open()
    assert queue.is_open
    queue.close(lambda: Draining("stopping"))
    assert not queue.is_open
    with pytest.raises(Draining):
        queue.offer(make())


def test_a_closed_queue_stays_closed_for_the_first_reason(make: Any) -> None:
    queue = TileQueue(ANY_NUMBER)
    queue.close(lambda: Draining("stopping"))
    queue.open()
    queue.close(lambda: BackendLost("later"))
    with pytest.raises(Draining):
        queue.offer(make())


def test_a_paused_queue_keeps_what_waits_and_opens_again(make: Any) -> None:
    queue = _open_queue()
    queue.offer(make())
    queue.pause(lambda: NotReady("no device"))
    assert not queue.is_open
    with pytest.raises(NotReady):
        queue.offer(make())
    queue.open()
    assert queue.offer(make())
    assert queue.tiles == 2


def test_what_waits_at_the_close_can_still_be_taken(make: Any) -> None:
    queue, told = _open_queue(), []
    queue.on_close = lambda: told.append("closed")
    tile = make()
    queue.offer(tile)
    queue.close(lambda: Draining("stopping"))
    assert told == ["closed"]
    assert _take(queue, tile).tiles == [tile]


def test_a_taken_tile_counts_as_running_until_it_is_released(make: Any) -> None:
    queue = _open_queue()
    stale, fresh = make(at=0, deadline=1.0), make(at=1)
    queue.offer(stale)
    queue.offer(fresh)
    _take(queue, fresh, now=2.0)
    assert queue.running == [fresh, stale]
    queue.release()
    assert queue.running == []


def test_what_runs_on_a_lost_device_is_told_from_what_runs_on_others(make: Any) -> None:
    queue = _open_queue()
    here, there = make(8, 8), make(8, 16)
    for tile, device in ((here, "cuda:0"), (there, "cuda:1")):
        queue.offer(tile)
        queue.take(next(iter(queue.buckets)), 1, 0.0, device)
    assert queue.release_from("cuda:0") == [here]
    assert queue.running == [there]


def test_clear_returns_every_tile_of_every_bucket(make: Any) -> None:
    queue = _open_queue()
    tiles = [make(8, 8), make(8, 16), make(8, 8, priority=Priority.BATCH)]
    for tile in tiles:
        queue.offer(tile)
    assert sorted(map(id, queue.clear())) == sorted(map(id, tiles))
    assert (queue.tiles, queue.pixels, len(queue.buckets)) == (0, 0, 0)
