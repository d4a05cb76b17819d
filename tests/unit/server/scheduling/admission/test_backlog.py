"""Tests of the Backlog and of what it is made from: the work of each Device."""

from typing import Any

import pytest
from devices import a_device

from server.scheduling.admission import backlog
from server.scheduling.policy.cost_model import CostModel
from server.scheduling.policy.device import Device
from server.scheduling.queue.tile import Batch, PaddedShape, Priority, Tile

SHAPE, OTHER = PaddedShape(8, 8), PaddedShape(16, 16)
ANY_FUTURE: Any = None


def device(name: str = "cuda:0", slowdown: float = 1.0, max_batch: int = 4) -> Device:
    """One second a run and one an image of either padded shape, times `slowdown`."""
    model = CostModel()
    for padded_shape in (SHAPE, OTHER):
        for count in (1, 4):
            model.observe(padded_shape, count, slowdown * (1.0 + count))
    return a_device(name, max_batch, cost_model=model)


def batch(make_pixels: Any, count: int) -> Batch:
    return Batch([Tile(make_pixels(), ANY_FUTURE, 0.0) for _ in range(count)], 0.0)


def test_a_bucket_costs_as_many_runs_as_it_needs() -> None:
    one = device()
    one.price(SHAPE, interactive=9, total=9)
    assert backlog.drain_s([one], Priority.BATCH, 0.0) == pytest.approx(5 + 5 + 2)


def test_the_batch_class_is_no_backlog_of_the_interactive_one() -> None:
    one = device()
    one.price(SHAPE, interactive=1, total=4)
    assert backlog.drain_s([one], Priority.INTERACTIVE, 0.0) == pytest.approx(2)
    assert backlog.drain_s([one], Priority.BATCH, 0.0) == pytest.approx(5)


def test_what_left_is_no_backlog() -> None:
    one = device()
    one.price(SHAPE, interactive=3, total=5)
    one.price(OTHER, interactive=1, total=1)
    one.price(SHAPE, interactive=0, total=0)
    assert backlog.drain_s([one], Priority.BATCH, 0.0) == pytest.approx(2)
    one.price(OTHER, interactive=0, total=0)
    assert one.work_s == [0, 0]


def test_what_is_left_of_the_runs_counts(make_pixels: Any) -> None:
    one = device()
    one.began(batch(make_pixels, 4), 100.0)
    one.began(batch(make_pixels, 1), 101.0)  # behind the first one
    assert backlog.drain_s([one], Priority.BATCH, 102.0) == pytest.approx(3 + 2)


def test_a_run_that_is_late_is_expected_to_be_as_late_again(make_pixels: Any) -> None:
    one = device()
    one.began(batch(make_pixels, 1), 100.0)
    assert one.remaining_s(102.0) == pytest.approx(0)
    assert one.remaining_s(105.0) == pytest.approx(3)


def test_equal_devices_share_the_work() -> None:
    pair = [device("cuda:0"), device("cuda:1")]
    for one in pair:
        one.price(SHAPE, interactive=16, total=16)
    assert backlog.drain_s(pair, Priority.BATCH, 0.0) == pytest.approx(10)


def test_a_slow_device_takes_the_smaller_part() -> None:
    pair = [device("cuda:0"), device("cpu", slowdown=3)]
    for one in pair:
        one.price(SHAPE, interactive=16, total=16)
    assert backlog.drain_s(pair, Priority.BATCH, 0.0) == pytest.approx(20 * 3 / 4)


def test_a_device_that_is_busy_for_long_takes_no_part(make_pixels: Any) -> None:
    pair = [device("cuda:0"), device("cuda:1", slowdown=100)]
    for one in pair:
        one.price(SHAPE, interactive=4, total=4)
    pair[1].began(batch(make_pixels, 4), 0.0)
    assert backlog.drain_s(pair, Priority.BATCH, 0.0) == pytest.approx(5)


def test_a_further_tile_joins_the_run_of_its_padded_shape(make_pixels: Any) -> None:
    one = device()
    one.price(SHAPE, interactive=2, total=2)
    assert backlog.answered_s([one], SHAPE, 2, Priority.INTERACTIVE, 0.0) == pytest.approx(4)
    assert backlog.answered_s([one], OTHER, 0, Priority.INTERACTIVE, 0.0) == pytest.approx(3 + 2)


def test_a_lone_tile_is_not_shared(make_pixels: Any) -> None:
    pair = [device("cuda:0"), device("cuda:1")]
    assert backlog.answered_s(pair, SHAPE, 0, Priority.INTERACTIVE, 0.0) == pytest.approx(2)


def test_a_run_holds_at_least_one_image_and_at_most_its_budget() -> None:
    one = a_device("cuda:0", max_batch=4, max_run_pixels=200)
    assert [
        one.room(padded_shape)
        for padded_shape in (PaddedShape(2, 2), PaddedShape(8, 8), PaddedShape(10, 15), PaddedShape(20, 20))
    ] == [4, 3, 1, 1]
