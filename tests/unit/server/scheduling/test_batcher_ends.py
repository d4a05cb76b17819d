"""Tests of the Batcher: random stories of tiles, of which each ends exactly once."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
from batcher_steps import turns
from devices import a_device
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from server.backends.base import Pixels, Result
from server.errors import BackendError, DeadlineExceeded, Draining, QueueFull
from server.metrics import Metrics
from server.scheduling.batcher import Batcher
from server.scheduling.queue.tile import Batch, Completion, Priority, settle_soon
from server.scheduling.queue.tile_queue import TileQueue

Play = Callable[..., Any]
MAX_BATCH = 3


SHAPES = [(8, 8), (8, 16), (16, 8), (24, 24)]
MAX_PIXELS, RUN_PIXELS, MAX_BACKLOG_S = 1200, 640, 3.0
SUBMIT = st.tuples(
    st.just("submit"),
    st.integers(0, len(SHAPES) - 1),
    st.one_of(st.none(), st.floats(0, 4, allow_nan=False)),
    st.sampled_from(Priority),
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
        self.batcher = Batcher(TileQueue(MAX_PIXELS), Metrics(self.registry), clock, max_backlog_s=MAX_BACKLOG_S)
        self.device = a_device("0", MAX_BATCH, RUN_PIXELS)
        self.batcher.join(self.device)
        self.tasks: list[asyncio.Task[Completion]] = []
        self.begun: set[int] = set()
        self.running: Batch | None = None
        self.batches: list[Batch] = []

    def submit(self, shape: int, patience: float | None, priority: Priority) -> None:
        pixels = np.full((3, *SHAPES[shape]), len(self.tasks), np.float32)  # each tile carries its caller's number
        deadline = None if patience is None else self.clock.now + patience
        self.tasks.append(asyncio.create_task(self.call(len(self.tasks), pixels, deadline, priority)))

    async def call(self, number: int, pixels: Pixels, deadline: float | None, priority: Priority) -> Completion:
        self.begun.add(number)
        return await self.batcher.submit(pixels, deadline, priority)

    def cancel(self, number: int) -> None:
        if number < len(self.tasks):
            self.tasks[number].cancel()

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def take(self) -> None:
        if self.running is None:
            self.running = self.batcher.poll(self.device)
            self.batches += [self.running] if self.running else []

    def end(self, how: str) -> None:
        if (batch := self.running) is None:
            return
        self.running = None
        if how == "result":
            self.answer(batch, 0.5)
        else:
            settle_soon(batch.tiles, [BackendError("failed") for _ in batch.tiles])
            self.batcher.finished(self.device, batch, None)
            self.batcher.queue.release(batch.tiles)

    def answer(self, batch: Batch, seconds: float) -> None:
        settle_soon(batch.tiles, batch.outcomes(Result(batch.stack()), batch.taken_at, seconds))
        self.batcher.finished(self.device, batch, seconds)
        self.batcher.queue.release(batch.tiles)

    def dropped(self, reason: str) -> float:
        return self.registry.get_sample_value("promptir_dropped_tiles_total", {"reason": reason}) or 0

    async def play(self, steps: list[tuple[Any, ...]]) -> list[Any]:
        for name, *arguments in steps:
            if name == "turn":
                await turns()
            else:
                getattr(self, name)(*arguments)
        await turns()
        self.batcher.queue.close(lambda: Draining("stopping"))
        self.end("result")
        while (batch := self.batcher.next_batch(self.device)) is not None:
            self.batches.append(batch)
            self.answer(batch, 0.0)
        return await asyncio.gather(*self.tasks, return_exceptions=True)


@settings(deadline=None, max_examples=200)
@given(steps=STEPS)
def test_every_tile_ends_exactly_once_and_only_equal_shapes_share_a_batch(
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
        assert len({tile.shape for tile in batch.tiles}) == 1
        assert len(batch.tiles) <= MAX_BATCH
        assert len(batch.tiles) == 1 or batch.pixel_count <= RUN_PIXELS
        assert [tile.priority for tile in batch.tiles] == sorted(tile.priority for tile in batch.tiles)
        for priority in Priority:
            due = [tile.due for tile in batch.tiles if tile.priority is priority]
            assert due == sorted(due)
    ran = [id(tile) for batch in story.batches for tile in batch.tiles]
    assert len(ran) == len(set(ran))
    assert (story.batcher.queue.tiles, story.batcher.queue.pixels) == (0, 0)
    assert story.dropped("cancelled") + story.dropped("abandoned") == sum(
        isinstance(end, asyncio.CancelledError) and number in story.begun for number, end in enumerate(ends)
    )
    assert story.batcher.queue.running == []
    assert story.batcher.backlog_s() == 0
    refused = story.registry.get_sample_value("promptir_refusals_total", {"reason": "deadline-exceeded"}) or 0
    assert story.dropped("expired") + refused == sum(isinstance(end, DeadlineExceeded) for end in ends)
