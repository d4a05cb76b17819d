"""Tests of the Batcher."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from server.backends.base import Pixels
from server.batching.batcher import MIN_RETRY_AFTER_S, Batcher
from server.batching.job import Batch, Completion, settle_soon
from server.batching.job_queue import JobQueue
from server.errors import BackendError, DeadlineExceeded, Draining, NotReady, QueueFull
from server.metrics import Metrics

Tile = Callable[..., Pixels]
Play = Callable[..., Any]
Make = Callable[..., Batcher]
ANY_NUMBER = 1_000_000_000


@pytest.fixture
def make(clock: Any, metrics: Metrics) -> Make:
    def batcher(max_jobs: int = 100, max_pixels: int = ANY_NUMBER, max_batch: int = 4) -> Batcher:
        queue = JobQueue(max_jobs, max_pixels)
        queue.open()
        return Batcher(queue, max_batch, metrics, clock, max_run_pixels=ANY_NUMBER)

    return batcher


async def _turns() -> None:
    """Let every ready task and callback run; an answer needs three turns of the loop to reach its caller."""
    for _ in range(5):
        await asyncio.sleep(0)


async def _submitted(batcher: Batcher, *tiles: Pixels, deadline: float | None = None) -> list[asyncio.Task[Completion]]:
    tasks = [asyncio.create_task(batcher.submit(pixels, deadline)) for pixels in tiles]
    await _turns()
    return tasks


def _run(batcher: Batcher, batch: Batch, seconds: float = 0.0) -> None:
    """Do to a batch what the worker does, with the identity as the network."""
    settle_soon(batch.jobs, batch.outcomes(batch.stack(), batch.taken_at, seconds))
    batcher.finished(batch, seconds)


def test_whatever_waits_becomes_one_batch_without_a_timer(make: Make, play: Play, tile: Tile) -> None:
    async def scenario() -> None:
        batcher = make()
        tasks = await _submitted(batcher, tile(value=1), tile(value=2))
        batch = batcher.poll()
        assert batch is not None
        assert len(batch.jobs) == 2
        _run(batcher, batch)
        first, second = await asyncio.gather(*tasks)
        assert (first.output.max(), second.output.max()) == (1, 2)
        assert batcher.poll() is None

    play(scenario())


def test_the_wait_in_the_queue_is_measured_on_the_clock(make: Make, play: Play, tile: Tile, clock: Any) -> None:
    async def scenario() -> None:
        batcher = make()
        (task,) = await _submitted(batcher, tile())
        clock.advance(1.5)
        batch = batcher.poll()
        assert batch is not None
        _run(batcher, batch, seconds=0.25)
        completion = await task
        assert (completion.queue_s, completion.inference_s) == (1.5, 0.25)

    play(scenario())


def test_a_cancelled_job_leaves_the_queue_at_once(
    make: Make, play: Play, tile: Tile, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make(max_jobs=1)
        (task,) = await _submitted(batcher, tile())
        task.cancel()
        await _turns()
        assert task.cancelled()
        assert batcher.queue.jobs == 0
        assert batcher.poll() is None

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_jobs_total", {"reason": "cancelled"}) == 1


def test_a_job_cancelled_during_its_run_does_not_disturb_its_neighbour(
    make: Make, play: Play, tile: Tile, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make()
        leaver, stayer = await _submitted(batcher, tile(value=1), tile(value=2))
        batch = batcher.poll()
        assert batch is not None
        leaver.cancel()
        _run(batcher, batch)
        assert (await stayer).output.max() == 2
        assert leaver.cancelled()

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_jobs_total", {"reason": "abandoned"}) == 1
    assert registry.get_sample_value("promptir_dropped_jobs_total", {"reason": "cancelled"}) == 0


def test_a_job_popped_between_its_cancellation_and_its_callers_next_turn_is_cancelled_once(
    make: Make, play: Play, tile: Tile, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make()
        (task,) = await _submitted(batcher, tile())
        task.cancel()
        assert batcher.poll() is None
        await _turns()
        assert task.cancelled()

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_jobs_total", {"reason": "cancelled"}) == 1
    assert registry.get_sample_value("promptir_dropped_jobs_total", {"reason": "abandoned"}) == 0


def test_a_job_whose_deadline_passes_while_it_waits_never_runs(
    make: Make, play: Play, tile: Tile, clock: Any, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make()
        (task,) = await _submitted(batcher, tile(), deadline=clock.now + 1)
        clock.advance(1)
        assert batcher.poll() is None
        with pytest.raises(DeadlineExceeded):
            await task

    play(scenario())
    assert registry.get_sample_value("promptir_dropped_jobs_total", {"reason": "expired"}) == 1


def test_a_deadline_already_passed_is_refused_before_it_waits(make: Make, play: Play, tile: Tile, clock: Any) -> None:
    async def scenario() -> None:
        batcher = make()
        with pytest.raises(DeadlineExceeded):
            await batcher.submit(tile(), deadline=clock.now)
        assert batcher.queue.jobs == 0

    play(scenario())


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((3, 8, 8)), np.zeros((1, 3, 8, 8), np.float32), np.zeros((4, 8, 8), np.float32)],
    ids=["float64", "already a batch", "four channels"],
)
def test_an_array_that_would_fail_its_neighbours_is_not_queued(make: Make, play: Play, wrong: Any) -> None:
    async def scenario() -> None:
        batcher = make()
        with pytest.raises(ValueError, match="a tile is float32"):
            await batcher.submit(wrong)
        assert batcher.queue.jobs == 0

    play(scenario())


def test_a_full_queue_refuses_and_counts_it(make: Make, play: Play, tile: Tile, registry: CollectorRegistry) -> None:
    async def scenario() -> None:
        batcher = make(max_jobs=1)
        (waiting,) = await _submitted(batcher, tile())
        with pytest.raises(QueueFull) as refusal:
            await batcher.submit(tile())
        assert refusal.value.retry_after_s == MIN_RETRY_AFTER_S
        waiting.cancel()

    play(scenario())
    assert registry.get_sample_value("promptir_refusals_total", {"reason": "queue-full"}) == 1


def test_retry_after_is_what_the_present_run_still_takes(make: Make, play: Play, tile: Tile, clock: Any) -> None:
    async def scenario() -> None:
        batcher = make(max_jobs=1)
        batcher.cost_model.observe(64, 10.0)
        (running,) = await _submitted(batcher, tile())
        assert batcher.poll() is not None
        (waiting,) = await _submitted(batcher, tile())
        clock.advance(3)
        with pytest.raises(QueueFull) as refusal:
            await batcher.submit(tile())
        assert refusal.value.retry_after_s == pytest.approx(7.0)
        running.cancel()
        waiting.cancel()

    play(scenario())


def test_retry_after_counts_the_pixels_that_must_leave_first(make: Make, play: Play, tile: Tile) -> None:
    async def scenario() -> None:
        batcher = make(max_pixels=4 * 64)
        batcher.cost_model.observe(64, 10.0)
        tasks = await _submitted(batcher, tile(), tile(), tile())
        with pytest.raises(QueueFull) as refusal:
            await batcher.submit(tile(8, 24))
        assert refusal.value.retry_after_s == pytest.approx(20.0)
        for task in tasks:
            task.cancel()

    play(scenario())


def test_a_failed_run_teaches_the_cost_model_nothing(make: Make, play: Play, tile: Tile) -> None:
    async def scenario() -> None:
        batcher = make()
        batcher.cost_model.observe(64, 10.0)
        (task,) = await _submitted(batcher, tile())
        batch = batcher.poll()
        assert batch is not None
        batcher.finished(batch, None)
        assert batcher.cost_model.predict(64) == pytest.approx(10.0)
        task.cancel()

    play(scenario())


def test_the_depth_of_the_queue_is_in_the_metrics(
    make: Make, play: Play, tile: Tile, registry: CollectorRegistry
) -> None:
    async def scenario() -> None:
        batcher = make()
        tasks = await _submitted(batcher, tile(8, 16), tile())
        assert registry.get_sample_value("promptir_queue_jobs") == 2
        assert registry.get_sample_value("promptir_queue_pixels") == 192
        for task in tasks:
            task.cancel()

    play(scenario())


def test_next_batch_is_none_once_the_queue_is_closed_and_empty(make: Make, play: Play, tile: Tile) -> None:
    async def scenario() -> None:
        batcher = make()
        (task,) = await _submitted(batcher, tile())
        batcher.queue.close(lambda: Draining("stopping"))
        batch = batcher.next_batch()
        assert batch is not None
        _run(batcher, batch)
        await task
        assert batcher.next_batch() is None
        with pytest.raises(Draining):
            await batcher.submit(tile())

    play(scenario())


def test_before_the_worker_opens_the_queue_nothing_waits(clock: Any, metrics: Metrics, play: Play, tile: Tile) -> None:
    async def scenario() -> None:
        with pytest.raises(NotReady):
            await Batcher(JobQueue(1, ANY_NUMBER), 1, metrics, clock).submit(tile())

    play(scenario())


SHAPES = [(8, 8), (8, 16), (16, 8), (24, 24)]
MAX_JOBS, MAX_PIXELS, MAX_BATCH, RUN_PIXELS = 6, 1200, 3, 640
SUBMIT = st.tuples(
    st.just("submit"), st.integers(0, len(SHAPES) - 1), st.one_of(st.none(), st.floats(0, 4, allow_nan=False))
)
STEPS = st.lists(
    st.one_of(
        SUBMIT,
        SUBMIT,
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("advance"), st.floats(0, 3, allow_nan=False)),
        st.tuples(st.just("take")),
        st.tuples(st.just("end"), st.sampled_from(["result", "error"])),
        st.tuples(st.just("turn")),
    ),
    max_size=40,
)


class Story:
    """Plays random steps against a batcher, a run at a time, and keeps what every caller was told."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.registry = CollectorRegistry()
        queue = JobQueue(MAX_JOBS, MAX_PIXELS)
        queue.open()
        self.batcher = Batcher(queue, MAX_BATCH, Metrics(self.registry), clock, max_run_pixels=RUN_PIXELS)
        self.tasks: list[asyncio.Task[Completion]] = []
        self.begun: set[int] = set()
        self.running: Batch | None = None
        self.batches: list[Batch] = []

    def submit(self, shape: int, patience: float | None) -> None:
        pixels = np.full((3, *SHAPES[shape]), len(self.tasks), np.float32)  # each tile carries its caller's number
        deadline = None if patience is None else self.clock.now + patience
        self.tasks.append(asyncio.create_task(self.call(len(self.tasks), pixels, deadline)))

    async def call(self, number: int, pixels: Pixels, deadline: float | None) -> Completion:
        self.begun.add(number)
        return await self.batcher.submit(pixels, deadline)

    def cancel(self, number: int) -> None:
        if number < len(self.tasks):
            self.tasks[number].cancel()

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def take(self) -> None:
        if self.running is None:
            self.running = self.batcher.poll()
            self.batches += [self.running] if self.running else []

    def end(self, how: str) -> None:
        if (batch := self.running) is None:
            return
        self.running = None
        if how == "result":
            _run(self.batcher, batch, 0.5)
        else:
            settle_soon(batch.jobs, [BackendError("failed") for _ in batch.jobs])
            self.batcher.finished(batch, None)

    def dropped(self, reason: str) -> float:
        return self.registry.get_sample_value("promptir_dropped_jobs_total", {"reason": reason}) or 0

    async def play(self, steps: list[tuple[Any, ...]]) -> list[Any]:
        for name, *arguments in steps:
            if name == "turn":
                await _turns()
            else:
                getattr(self, name)(*arguments)
        await _turns()
        self.batcher.queue.close(lambda: Draining("stopping"))
        self.end("result")
        while (batch := self.batcher.next_batch()) is not None:
            self.batches.append(batch)
            _run(self.batcher, batch)
        return await asyncio.gather(*self.tasks, return_exceptions=True)


@settings(deadline=None, max_examples=200)
@given(steps=STEPS)
def test_every_job_ends_exactly_once_and_only_equal_shapes_share_a_batch(
    play: Play, clock_type: type, steps: list[tuple[Any, ...]]
) -> None:
    story = Story(clock_type())
    ends = play(story.play(steps))
    for number, end in enumerate(ends):
        if isinstance(end, Completion):
            assert (end.output == number).all()
        else:
            assert isinstance(end, asyncio.CancelledError | QueueFull | DeadlineExceeded | BackendError)
    for batch in story.batches:
        assert len({job.shape for job in batch.jobs}) == 1
        assert len(batch.jobs) <= MAX_BATCH
        assert len(batch.jobs) == 1 or batch.pixel_count <= RUN_PIXELS
        assert [job.enqueued_at for job in batch.jobs] == sorted(job.enqueued_at for job in batch.jobs)
    ran = [id(job) for batch in story.batches for job in batch.jobs]
    assert len(ran) == len(set(ran))
    assert (story.batcher.queue.jobs, story.batcher.queue.pixels) == (0, 0)
    assert story.dropped("cancelled") + story.dropped("abandoned") == sum(
        isinstance(end, asyncio.CancelledError) and number in story.begun for number, end in enumerate(ends)
    )
    refused = story.registry.get_sample_value("promptir_refusals_total", {"reason": "deadline-exceeded"}) or 0
    assert story.dropped("expired") + refused == sum(isinstance(end, DeadlineExceeded) for end in ends)
