"""Tests of the Snapshot."""

import asyncio
from typing import Any

import pytest

from server.batching.batcher import Batcher
from server.batching.device import Device
from server.batching.job import Canvas, Job, Priority
from server.batching.job_queue import JobQueue
from server.metrics import Metrics


@pytest.fixture
def future() -> Any:
    """An answer whose loop never runs."""
    loop = asyncio.new_event_loop()
    yield loop.create_future()
    loop.close()


def test_an_idle_server_has_no_lanes_and_no_backlog(metrics: Metrics, clock: Any) -> None:
    batcher = Batcher(JobQueue(10**9), metrics, clock, max_backlog_s=30.0)
    assert (batcher.snapshot().lanes, batcher.snapshot().devices) == ((), ())
    batcher.join(Device("cuda:0", 8))
    seen = batcher.snapshot()
    assert (seen.backlog_ms, seen.max_backlog_ms, len(seen.lanes)) == (0, 30_000, 0)
    assert [(device.name, device.running, device.costs) for device in seen.devices] == [("cuda:0", (), ())]


def test_it_shows_lanes_runs_costs_and_backlog(metrics: Metrics, clock: Any, tile: Any, future: Any) -> None:
    batcher = Batcher(JobQueue(10**9), metrics, clock)
    device = Device("cuda:0", 3)
    for count in (1, 3):
        device.cost_model.observe((8, 8), count, 1.0 + count)
    batcher.join(device)
    batcher.enqueue(Job(tile(), future, clock.now))
    assert batcher.poll(device) is not None
    clock.advance(0.5)
    for priority in (Priority.INTERACTIVE, Priority.BATCH, Priority.BATCH):
        batcher.enqueue(Job(tile(), future, clock.now, priority=priority))
    clock.advance(0.25)
    seen = batcher.snapshot()
    assert seen.backlog_ms == pytest.approx(1250 + 4000)
    (lane,) = seen.lanes
    assert (lane.height, lane.width, lane.jobs, lane.pixels) == (8, 8, 3, 192)
    assert (lane.interactive, lane.batch, lane.oldest_wait_ms) == (1, 2, pytest.approx(250))
    (state,) = seen.devices
    assert (state.name, state.max_batch, state.running) == ("cuda:0", 3, ((8, 8, 1),))
    assert state.remaining_ms == pytest.approx(1250)
    (cost,) = state.costs
    assert (cost.fixed_ms, cost.per_image_ms, cost.runs) == (pytest.approx(1000), pytest.approx(1000), 2)


@pytest.mark.parametrize(("given", "chosen_by"), [([Canvas(16, 24)], "setting"), ([], "traffic")])
def test_a_canvas_has_the_jobs_that_fit_in_no_smaller_one(
    metrics: Metrics, clock: Any, tile: Any, future: Any, given: list[Canvas], chosen_by: str
) -> None:
    batcher = Batcher(JobQueue(10**9), metrics, clock, canvases=given)
    device = Device("cuda:0", 8)
    device.masks = True
    batcher.join(device)
    for height, width in ((16, 24), (16, 16), (8, 24), (24, 16)) * 4:  # enough for canvases of the traffic
        batcher.enqueue(Job(tile(height, width), future, clock.now))
    seen = batcher.snapshot().canvases
    assert {canvas.chosen_by for canvas in seen} == {chosen_by}
    found = {(canvas.height, canvas.width): (canvas.jobs, canvas.padding) for canvas in seen}
    if given:
        assert found == {(16, 24): (12, pytest.approx(1 - (1 + 2 / 3 + 1 / 2) / 3)), (24, 16): (4, 0)}
    else:
        assert found == {(8, 24): (4, 0), (24, 8): (0, 0), (16, 16): (4, 0), (16, 24): (4, 0), (24, 16): (4, 0)}


def test_canvases_that_no_device_can_share_are_not_shown(metrics: Metrics, clock: Any) -> None:
    batcher = Batcher(JobQueue(10**9), metrics, clock, canvases=[Canvas(16, 24)])
    batcher.join(Device("cuda:0", 8))
    assert batcher.snapshot().canvases == ()
