"""Tests of the Admission, through the Batcher that asks it."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from devices import a_device, loaded
from prometheus_client import CollectorRegistry

from server.errors import DeadlineExceeded, DeadlineUnmet, QueueFull
from server.metrics import Metrics
from server.scheduling.admission.admission import MOST_UNPRICED
from server.scheduling.admission.backlog import MIN_RETRY_AFTER_S
from server.scheduling.batcher import Batcher
from server.scheduling.queue.tile import PaddedShape, Priority, Tile
from server.scheduling.queue.tile_queue import TileQueue

Make = Callable[..., Batcher]
ANY_NUMBER = 1_000_000_000
RUN_S = 10.0


@pytest.fixture
def make(clock: Any, metrics: Metrics) -> Make:
    """A batcher with one device, on which 8x8 pixels take ten seconds and more in proportion."""

    def batcher(max_backlog_s: float = ANY_NUMBER, max_pixels: int = ANY_NUMBER) -> Batcher:
        batcher = Batcher(TileQueue(max_pixels), metrics, clock, max_backlog_s=max_backlog_s)
        device = a_device("0", 4)
        loaded(device).cost_model.observe(PaddedShape(8, 8), 1, RUN_S)
        batcher.join(device)
        return batcher

    return batcher


@pytest.fixture
def send(make_pixels: Any, clock: Any) -> Any:
    """Enqueue tiles of 8x8 whose callers' loop never runs."""
    loop = asyncio.new_event_loop()

    def send(batcher: Batcher, count: int = 1, priority: Priority = Priority.INTERACTIVE) -> None:
        for _ in range(count):
            batcher.enqueue(Tile(make_pixels(), loop.create_future(), clock.now, priority=priority))

    yield send
    loop.close()


def refusals(registry: CollectorRegistry, reason: str) -> float | None:
    return registry.get_sample_value("promptir_refusals_total", {"reason": reason})


def test_the_bound_on_pixels_refuses_and_is_counted(make: Make, send: Any, registry: CollectorRegistry) -> None:
    batcher = make(max_pixels=4 * 64)
    send(batcher, 3)
    with pytest.raises(QueueFull) as refusal:
        batcher.admission.admit(PaddedShape(8, 24))
    assert "have 192 pixels" in refusal.value.detail
    assert "than the 256 that" in refusal.value.detail
    assert refusal.value.retry_after_s == pytest.approx(3 * RUN_S * 2 / 3)  # 128 of the 192 pixels have to leave first
    send(batcher)
    with pytest.raises(QueueFull):
        send(batcher)
    assert batcher.queue.tiles == 4
    assert refusals(registry, "queue-full") == 2


def test_nobody_is_told_to_come_back_sooner_than_makes_sense(make: Make, send: Any) -> None:
    batcher = make(max_backlog_s=2 * RUN_S - 0.001)
    send(batcher)
    with pytest.raises(QueueFull) as refusal:
        batcher.admission.admit(PaddedShape(8, 8))
    assert refusal.value.retry_after_s == MIN_RETRY_AFTER_S


def test_a_backlog_beyond_its_bound_refuses_until_the_excess_has_run(make: Make, send: Any, clock: Any) -> None:
    batcher = make(max_backlog_s=25.0)
    send(batcher)
    assert batcher.poll(batcher.devices["0"]) is not None
    send(batcher)
    assert batcher.backlog_s() == pytest.approx(20.0)
    with pytest.raises(QueueFull) as refusal:
        batcher.admission.admit(PaddedShape(8, 8))
    assert refusal.value.retry_after_s == pytest.approx(5.0)
    clock.advance(5)  # of the current run
    batcher.admission.admit(PaddedShape(8, 8))


def test_an_idle_server_takes_a_tile_beyond_the_bound(make: Make, send: Any) -> None:
    batcher = make(max_backlog_s=1.0)
    send(batcher)
    with pytest.raises(QueueFull):
        send(batcher)
    assert batcher.queue.tiles == 1


def test_the_backlog_of_the_batch_class_does_not_refuse_interactive_tiles(make: Make, send: Any) -> None:
    batcher = make(max_backlog_s=25.0)
    send(batcher, 2, Priority.BATCH)
    with pytest.raises(QueueFull):
        batcher.admission.admit(PaddedShape(8, 8), priority=Priority.BATCH)
    batcher.admission.admit(PaddedShape(8, 8), priority=Priority.INTERACTIVE)


def test_all_shapes_count_however_many_changed_since_the_last_prediction(make: Make) -> None:
    batcher = make()
    shapes = [PaddedShape(8, 8 * width) for width in range(1, 2 * MOST_UNPRICED)]
    with ExitStack() as tickets:
        for shape in shapes:
            tickets.enter_context(batcher.ticket(shape))
        assert batcher.backlog_s() == pytest.approx(RUN_S * sum(width for width in range(1, 2 * MOST_UNPRICED)))
    assert batcher.backlog_s() == 0


def test_an_idle_server_expects_an_image_after_its_run_alone(make: Make, send: Any) -> None:
    batcher = make()
    batcher.join(a_device("slow", 4))
    loaded(batcher.devices["slow"]).cost_model.observe(PaddedShape(8, 8), 1, 3 * RUN_S)
    now = batcher.admission.admit(PaddedShape(8, 8)) - RUN_S
    send(batcher)  # the second waits behind it
    assert batcher.admission.admit(PaddedShape(8, 8)) > now + RUN_S


def test_a_deadline_that_the_backlog_leaves_no_time_for_is_refused_at_once(
    make: Make, send: Any, clock: Any, registry: CollectorRegistry
) -> None:
    batcher = make()
    send(batcher)
    with pytest.raises(DeadlineUnmet) as refusal:
        batcher.admission.admit(PaddedShape(8, 8), clock.now + 15)
    assert refusal.value.retry_after_s == pytest.approx(5.0)
    batcher.admission.admit(PaddedShape(8, 8), clock.now + 21)
    assert refusals(registry, "deadline-unmet") == 1


def test_a_deadline_that_no_run_could_keep_is_no_matter_of_coming_back(make: Make, clock: Any) -> None:
    with pytest.raises(DeadlineExceeded):
        make().admission.admit(PaddedShape(8, 8), clock.now + RUN_S - 1)


def test_a_tile_that_is_only_asked_about_takes_no_place(make: Make) -> None:
    batcher = make(max_pixels=64)
    for _ in range(3):
        batcher.admission.admit(PaddedShape(8, 8))
    assert (batcher.queue.tiles, batcher.backlog_s()) == (0, 0)


def finish(batcher: Batcher, clock: Any, seconds: float, late_s: float = 0.0) -> None:
    """Run the next batch of the one device, which takes `seconds` and is noticed `late_s` later."""
    device = batcher.devices["0"]
    batch = batcher.poll(device)
    assert batch is not None
    clock.advance(seconds + late_s)
    batcher.finished(device, batch, seconds)


def test_any_tile_is_refused_once_there_is_no_room_for_one_of_the_usual_size(
    make: Make, send: Any, clock: Any, registry: CollectorRegistry
) -> None:
    batcher = make(max_backlog_s=45.0)
    send(batcher, 1)
    finish(batcher, clock, RUN_S)  # so a tile usually takes ten seconds
    batcher.admission.admit_any(3)  # nothing waits, but those who arrive: ten seconds each, and itself
    with pytest.raises(QueueFull) as refusal:
        batcher.admission.admit_any(5)
    assert refusal.value.retry_after_s == pytest.approx(15.0)
    send(batcher, 3)
    batcher.admission.admit_any(0)
    with pytest.raises(QueueFull):
        batcher.admission.admit_any(1)
    assert refusals(registry, "queue-full") == 2


def test_while_nothing_runs_and_nothing_waits_nobody_is_refused_unasked(make: Make, send: Any, clock: Any) -> None:
    batcher = make(max_backlog_s=1.0)
    send(batcher)
    finish(batcher, clock, RUN_S)
    batcher.admission.admit_any(0)


def test_what_the_batch_class_takes_is_not_usual(make: Make, send: Any, clock: Any) -> None:
    batcher = make(max_backlog_s=25.0)
    send(batcher, 1, Priority.BATCH)
    finish(batcher, clock, 20.0)
    batcher.admission.admit_any(10)
