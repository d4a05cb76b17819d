"""Tests of the Snapshot."""

import asyncio
from typing import Any

import pytest
from devices import a_device, loaded

from server.metrics import Metrics
from server.scheduling.batcher import Batcher
from server.scheduling.queue.tile import PaddedShape, Priority, Tile
from server.scheduling.queue.tile_queue import TileQueue
from server.scheduling.snapshot import RunState


@pytest.fixture
def future() -> Any:
    """An answer whose loop never runs."""
    loop = asyncio.new_event_loop()
    yield loop.create_future()
    loop.close()


def test_an_idle_server_has_no_buckets_and_no_backlog(metrics: Metrics, clock: Any) -> None:
    batcher = Batcher(TileQueue(10**9), metrics, clock, max_backlog_s=30.0)
    assert (batcher.snapshot().buckets, batcher.snapshot().devices) == ((), ())
    batcher.join(a_device("cuda:0", 8))
    seen = batcher.snapshot()
    assert (seen.backlog_ms, seen.max_backlog_ms, len(seen.buckets)) == (0, 30_000, 0)
    assert [(device.name, device.running) for device in seen.devices] == [("cuda:0", ())]
    assert [model.costs for device in seen.devices for model in device.models] == [()]


def test_it_shows_buckets_runs_costs_and_backlog(metrics: Metrics, clock: Any, make_pixels: Any, future: Any) -> None:
    batcher = Batcher(TileQueue(10**9), metrics, clock)
    device = a_device("cuda:0", 3)
    for count in (1, 3):
        loaded(device).cost_model.observe(PaddedShape(8, 8), count, 1.0 + count)
    batcher.join(device)
    batcher.enqueue(Tile(make_pixels(), future, clock.now))
    assert batcher.poll(device) is not None
    clock.advance(0.5)
    for priority in (Priority.INTERACTIVE, Priority.BATCH, Priority.BATCH):
        batcher.enqueue(Tile(make_pixels(), future, clock.now, priority=priority))
    clock.advance(0.25)
    seen = batcher.snapshot()
    assert seen.backlog_ms == pytest.approx(1250 + 4000)
    (bucket,) = seen.buckets
    assert (bucket.height, bucket.width, bucket.tiles, bucket.pixels) == (8, 8, 3, 192)
    assert (bucket.interactive, bucket.batch, bucket.oldest_wait_ms) == (1, 2, pytest.approx(250))
    (state,) = seen.devices
    assert (state.name, state.running) == ("cuda:0", (RunState("", 8, 8, 1),))
    assert state.remaining_ms == pytest.approx(1250)
    (model,) = state.models
    assert (model.name, model.max_batch) == ("", 3)
    (cost,) = model.costs
    assert (cost.fixed_ms, cost.per_image_ms, cost.runs) == (pytest.approx(1000), pytest.approx(1000), 2)


@pytest.mark.parametrize(("given", "chosen_by"), [([PaddedShape(16, 24)], "setting"), ([], "traffic")])
def test_a_padded_shape_has_the_tiles_that_fit_in_no_smaller_one(
    metrics: Metrics, clock: Any, make_pixels: Any, future: Any, given: list[PaddedShape], chosen_by: str
) -> None:
    batcher = Batcher(TileQueue(10**9), metrics, clock, padded_shapes=given)
    device = a_device("cuda:0", 8)
    loaded(device).mixes_sizes = True
    batcher.join(device)
    for height, width in ((16, 24), (16, 16), (8, 24), (24, 16)) * 4:  # enough for padded_shapes of the traffic
        batcher.enqueue(Tile(make_pixels(height, width), future, clock.now))
    seen = batcher.snapshot().padded_shapes
    assert {padded_shape.chosen_by for padded_shape in seen} == {chosen_by}
    found = {
        (padded_shape.height, padded_shape.width): (padded_shape.tiles, padded_shape.padding) for padded_shape in seen
    }
    if given:
        assert found == {(16, 24): (12, pytest.approx(1 - (1 + 2 / 3 + 1 / 2) / 3)), (24, 16): (4, 0)}
    else:
        assert found == {(8, 24): (4, 0), (24, 8): (0, 0), (16, 16): (4, 0), (16, 24): (4, 0), (24, 16): (4, 0)}


def test_padded_shapes_that_no_device_can_share_are_not_shown(metrics: Metrics, clock: Any) -> None:
    batcher = Batcher(TileQueue(10**9), metrics, clock, padded_shapes=[PaddedShape(16, 24)])
    batcher.join(a_device("cuda:0", 8))
    assert batcher.snapshot().padded_shapes == ()
