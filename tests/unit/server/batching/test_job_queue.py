"""Tests of the JobQueue."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from server.backends.base import Pixels
from server.batching.job import Job
from server.batching.job_queue import JobQueue
from server.errors import BackendLost, Draining, NotReady

Tile = Callable[..., Pixels]
ANY_NUMBER = 1_000_000_000
LATER = 1e9


@pytest.fixture
def make(tile: Tile) -> Any:
    """Make jobs; their futures belong to a loop that never runs."""
    loop = asyncio.new_event_loop()
    try:
        yield lambda height=8, width=8, at=0.0, deadline=None: Job(
            tile(height, width), loop.create_future(), at, deadline
        )
    finally:
        loop.close()


def _open_queue(max_jobs: int = ANY_NUMBER, max_pixels: int = ANY_NUMBER) -> JobQueue:
    queue = JobQueue(max_jobs, max_pixels)
    queue.open()
    return queue


def _take(queue: JobQueue, max_jobs: int = ANY_NUMBER, max_pixels: int = ANY_NUMBER, now: float = 0.0) -> list[Job]:
    return queue.take(max_jobs, max_pixels, now).jobs


def test_jobs_of_one_shape_leave_together_in_the_order_they_came(make: Any) -> None:
    queue = _open_queue()
    jobs = [make(at=index) for index in range(3)]
    assert all(queue.offer(job) for job in jobs)
    assert _take(queue) == jobs
    assert (queue.jobs, queue.pixels) == (0, 0)


def test_the_oldest_job_decides_which_lane_goes_first(make: Any) -> None:
    queue = _open_queue()
    wide, small, late_wide = make(8, 16, at=1), make(8, 8, at=2), make(8, 16, at=3)
    for job in (wide, small, late_wide):
        queue.offer(job)
    assert _take(queue) == [wide, late_wide]
    assert _take(queue) == [small]


def test_turned_shapes_of_equal_area_do_not_mix(make: Any) -> None:
    queue = _open_queue()
    for job in (make(8, 16, at=1), make(16, 8, at=2)):
        queue.offer(job)
    assert [len(_take(queue)), len(_take(queue))] == [1, 1]


def test_a_take_stops_at_the_largest_batch_and_at_the_largest_run(make: Any) -> None:
    queue = _open_queue()
    for index in range(6):
        queue.offer(make(at=index))
    assert len(_take(queue, max_jobs=3)) == 3
    assert len(_take(queue, max_pixels=2 * 64 + 63)) == 2


def test_a_job_larger_than_a_run_goes_alone(make: Any) -> None:
    queue = _open_queue()
    for index in range(2):
        queue.offer(make(at=index))
    assert len(_take(queue, max_pixels=1)) == 1


def test_the_bound_on_jobs_refuses_the_next_one(make: Any) -> None:
    queue = _open_queue(max_jobs=2)
    assert [queue.offer(make()) for _ in range(3)] == [True, True, False]
    assert queue.jobs == 2


def test_the_bound_on_pixels_refuses_what_would_exceed_it(make: Any) -> None:
    queue = _open_queue(max_pixels=3 * 64)
    assert [queue.offer(make()), queue.offer(make(8, 24)), queue.offer(make(8, 16))] == [True, False, True]
    assert queue.pixels == 3 * 64


def test_an_empty_queue_takes_a_job_of_any_size(make: Any) -> None:
    assert _open_queue(max_pixels=1).offer(make(64, 64))


def test_a_discarded_job_frees_its_place(make: Any) -> None:
    queue = _open_queue(max_jobs=1)
    job = make()
    queue.offer(job)
    assert queue.discard(job)
    assert not queue.discard(job)
    assert queue.offer(make())


def test_a_job_whose_caller_left_is_dropped_on_the_way(make: Any) -> None:
    queue = _open_queue()
    gone, here = make(at=0), make(at=1)
    queue.offer(gone)
    queue.offer(here)
    gone.future.cancel()
    taken = queue.take(1, ANY_NUMBER, 0.0)
    assert (taken.jobs, taken.expired) == ([here], [])
    assert not gone.taken


def test_expired_jobs_are_set_apart_and_do_not_use_up_the_batch(make: Any) -> None:
    queue = _open_queue()
    stale, fresh = make(at=0, deadline=5.0), make(at=1, deadline=6.0)
    queue.offer(stale)
    queue.offer(fresh)
    taken = queue.take(1, ANY_NUMBER, now=5.0)
    assert (taken.jobs, taken.expired) == ([fresh], [stale])


def test_a_lane_of_only_expired_jobs_gives_way_to_the_next_lane(make: Any) -> None:
    queue = _open_queue()
    stale, fresh = make(8, 16, at=0, deadline=1.0), make(8, 8, at=1)
    queue.offer(stale)
    queue.offer(fresh)
    taken = queue.take(8, ANY_NUMBER, now=2.0)
    assert (taken.jobs, taken.expired) == ([fresh], [stale])


def test_nothing_is_admitted_before_the_queue_opens_or_after_it_closes(make: Any) -> None:
    queue = JobQueue(1, ANY_NUMBER)
    with pytest.raises(NotReady):
        queue.offer(make())
    queue.open()
    assert queue.is_open
    queue.close(lambda: Draining("stopping"))
    assert not queue.is_open
    with pytest.raises(Draining):
        queue.offer(make())


def test_a_closed_queue_stays_closed_for_the_first_reason(make: Any) -> None:
    queue = JobQueue(1, ANY_NUMBER)
    queue.close(lambda: Draining("stopping"))
    queue.open()
    queue.close(lambda: BackendLost("later"))
    with pytest.raises(Draining):
        queue.offer(make())


def test_what_waits_at_the_close_can_still_be_taken(make: Any) -> None:
    queue = _open_queue()
    queue.offer(make())
    queue.close(lambda: Draining("stopping"))
    assert queue.wait()
    assert len(_take(queue)) == 1
    assert not queue.wait()


def test_a_taken_job_counts_as_running_until_it_is_released(make: Any) -> None:
    queue = _open_queue()
    stale, fresh = make(at=0, deadline=1.0), make(at=1)
    queue.offer(stale)
    queue.offer(fresh)
    queue.take(8, ANY_NUMBER, now=2.0)
    assert queue.running == [fresh, stale]
    queue.release()
    assert queue.running == []


def test_clear_returns_every_job_of_every_lane(make: Any) -> None:
    queue = _open_queue()
    jobs = [make(8, 8), make(8, 16), make(8, 8)]
    for job in jobs:
        queue.offer(job)
    assert sorted(map(id, queue.clear())) == sorted(map(id, jobs))
    assert (queue.jobs, queue.pixels, _take(queue)) == (0, 0, [])


@pytest.mark.parametrize("wake", [lambda queue, make: queue.offer(make()), lambda queue, _: queue.close(NotReady)])
def test_a_job_or_the_close_wakes_a_waiting_taker(make: Any, wake: Callable[[JobQueue, Any], object]) -> None:
    queue = _open_queue()
    answers: list[bool] = []
    taker = threading.Thread(target=lambda: answers.append(queue.wait()), daemon=True)
    taker.start()
    wake(queue, make)
    taker.join(timeout=10)
    assert answers == [queue.jobs == 1]
