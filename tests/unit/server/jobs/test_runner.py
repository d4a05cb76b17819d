"""Tests of the Runner, and of what clients do with its jobs."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from server.errors import (
    BackendLost,
    DeadlineExceeded,
    Draining,
    JobsUnavailable,
    MemoryShort,
    NotReady,
    QueueFull,
    UndecodableImage,
)
from server.formats.output import OutputFormat
from server.jobs.batch_store import BatchStore
from server.jobs.long_work import LongWork
from server.jobs.record import Order, State
from server.jobs.runner import CONCURRENT, LONGEST_PAUSE_S, MOST_STARTS, Runner
from server.jobs.store_thread import StoreThread
from server.metrics import Metrics
from server.restore.options import Mode, Progress, Restored, Timings
from server.restore.pipeline import Status
from server.restore.request import RestoreRequest
from server.scheduling.queue.tile import Priority

NewOrder = Callable[..., Order]


@dataclass
class Call:
    """One restoration that the test ends: `answer` with bytes or an error."""

    data: bytes
    deadline: float | None
    priority: Priority
    progress: Progress
    answer: asyncio.Future[bytes] = field(default_factory=asyncio.Future)


class Restorations:
    """Stands in for the Restorer: each call waits until the test answers it."""

    def __init__(self) -> None:
        self.status = Status.READY
        self.active = 0
        self.calls: list[Call] = []
        self.cancelled = 0

    @contextmanager
    def accepted(self) -> Iterator[None]:
        if self.status is not Status.READY:
            raise Draining("stopping") if self.status is Status.DRAINING else NotReady("starting")
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    def deadline_in(self, patience_s: float | None) -> float | None:
        return patience_s

    async def restore(self, data: bytes, request: RestoreRequest, progress: Progress | None = None) -> Restored:
        assert progress is not None
        self.calls.append(call := Call(data, request.deadline, request.priority, progress))
        try:
            result = await call.answer
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Restored(result, OutputFormat.PNG, 8, 8, Timings(0, 0, 0, 0, 1), Mode.TILED, 4)


@dataclass
class Bench:
    """Long work over a real store, its clock and its stand-in."""

    work: LongWork
    runner: Runner
    store: BatchStore
    restorer: Restorations

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop and the store's thread go on until it holds."""
        async with asyncio.timeout(10):
            while True:
                if condition():
                    return
                await asyncio.sleep(0)

    async def calls(self, count: int) -> list[Call]:
        await self.until(lambda: len(self.restorer.calls) >= count)
        return self.restorer.calls

    async def state(self, id_: str, state: State) -> None:
        async with asyncio.timeout(10):
            while True:
                if (await self.work.look(id_)).record.state is state:
                    return
                await asyncio.sleep(0)


Scenario = Callable[[Bench], Coroutine[Any, Any, None]]


@pytest.fixture
def play(tmp_path: Path, clock: Any) -> Callable[[Scenario], None]:
    """Run a scenario with long work that is started, and stop it."""

    async def played(scenario: Scenario) -> None:
        store, thread, restorer = BatchStore(tmp_path, 10**7, 3600, clock), StoreThread(), Restorations()
        runner = Runner(
            store,
            thread,
            restorer,
            lambda error, instance: {"type": error.slug, "instance": instance},
            lambda restored: {},
            clock,
            clock,
        )
        work = LongWork(store, thread, runner, Metrics(CollectorRegistry()))
        await work.start()
        try:
            await scenario(Bench(work, runner, store, restorer))
        finally:
            await work.stop()

    return lambda scenario: asyncio.run(played(scenario))


def test_a_bounded_number_runs_at_a_time_as_batch_work_in_the_order_it_came(play: Any, order: NewOrder) -> None:
    async def scenario(bench: Bench) -> None:
        ids = [(await bench.work.submit(bytes([n]), order())).record.id for n in range(CONCURRENT + 1)]
        calls = await bench.calls(CONCURRENT)
        assert (await bench.work.look(ids[-1])).record.state is State.QUEUED
        assert [call.data for call in calls] == [bytes([n]) for n in range(CONCURRENT)]
        assert {call.priority for call in calls} == {Priority.BATCH}
        calls[0].answer.set_result(b"restored")
        await bench.state(ids[0], State.DONE)
        assert (await bench.calls(CONCURRENT + 1))[-1].data == bytes([CONCURRENT])
        with (await bench.work.open_result(ids[0]))[2] as file:
            assert file.read() == b"restored"

    play(scenario)


def test_progress_and_the_time_that_is_left_come_from_the_tiles_that_ran(
    play: Any, order: NewOrder, clock: Any
) -> None:
    async def scenario(bench: Bench) -> None:
        id_ = (await bench.work.submit(b"", order())).record.id
        (call,) = await bench.calls(1)
        assert (await bench.work.look(id_)).left_s is None
        clock.now += 6
        call.progress(3, 4)
        now = await bench.work.look(id_)
        assert (now.done, now.total, now.left_s) == (3, 4, 2.0)

    play(scenario)


def test_the_wait_in_the_queue_is_predicted_from_jobs_that_ended(play: Any, order: NewOrder, clock: Any) -> None:
    async def scenario(bench: Bench) -> None:
        first = (await bench.work.submit(b"", order(pixels=100))).record.id
        (call,) = await bench.calls(1)
        clock.now += 10
        call.answer.set_result(b"")
        await bench.state(first, State.DONE)
        for _ in range(CONCURRENT):
            await bench.work.submit(b"", order(pixels=200))
        await bench.calls(1 + CONCURRENT)
        await bench.work.submit(b"", order(pixels=400))
        last = await bench.work.submit(b"", order(pixels=100))
        # 0.1 s a pixel: those that run and the one ahead share the places, then its own 10 s.
        assert last.left_s == (CONCURRENT * 20 + 40) / CONCURRENT + 10

    play(scenario)


def test_a_cancelled_job_stops_its_restoration_and_makes_room(play: Any, order: NewOrder) -> None:
    async def scenario(bench: Bench) -> None:
        ids = [(await bench.work.submit(b"", order())).record.id for _ in range(CONCURRENT + 1)]
        await bench.calls(CONCURRENT)
        await bench.work.give_up(ids[0])
        await bench.calls(CONCURRENT + 1)
        assert bench.restorer.cancelled == 1
        assert (await bench.work.look(ids[0])).record.state is State.CANCELLED

    play(scenario)


def test_a_job_that_is_cancelled_before_its_first_step_leaves_its_place(play: Any, order: NewOrder) -> None:
    async def scenario(bench: Bench) -> None:
        ring, withdrawn = bench.runner.notifier.notify, []

        def withdraw_at_once(id_: str, *others: str | None) -> None:
            ring(id_, *others)
            if id_ in bench.runner.runs and not withdrawn:
                withdrawn.append(id_)
                bench.runner.withdraw(id_)

        bench.runner.notifier.notify = withdraw_at_once  # type: ignore[method-assign]
        for n in range(CONCURRENT + 1):
            await bench.work.submit(bytes([n]), order())
        assert [call.data for call in await bench.calls(CONCURRENT)] == [bytes([n + 1]) for n in range(CONCURRENT)]

    play(scenario)


def test_an_error_of_the_image_ends_the_job_with_its_problem(play: Any, order: NewOrder) -> None:
    async def scenario(bench: Bench) -> None:
        id_ = (await bench.work.submit(b"", order())).record.id
        (await bench.calls(1))[0].answer.set_exception(UndecodableImage("broken"))
        await bench.state(id_, State.FAILED)
        problem = (await bench.work.look(id_)).record.problem
        assert problem == {"type": "undecodable-image", "instance": f"urn:promptir:job:{id_}"}

    play(scenario)


def test_an_error_that_nobody_foresaw_ends_one_job_and_not_the_next(play: Any, order: NewOrder) -> None:
    async def scenario(bench: Bench) -> None:
        ids = [(await bench.work.submit(b"", order())).record.id for _ in range(2)]
        calls = await bench.calls(2)
        calls[0].answer.set_exception(ZeroDivisionError())
        calls[1].answer.set_result(b"")
        await bench.state(ids[0], State.FAILED)
        await bench.state(ids[1], State.DONE)

    play(scenario)


def test_a_full_queue_is_waited_for_and_the_job_goes_on(play: Any, order: NewOrder) -> None:
    async def scenario(bench: Bench) -> None:
        id_ = (await bench.work.submit(b"upload", order())).record.id
        (await bench.calls(1))[0].answer.set_exception(QueueFull("full", retry_after_s=0.0))
        (await bench.calls(2))[1].answer.set_result(b"")
        await bench.state(id_, State.DONE)
        assert (await bench.work.look(id_)).record.starts == 1

    play(scenario)


def test_a_lost_device_is_worth_some_more_starts(play: Any, order: NewOrder) -> None:
    async def scenario(bench: Bench) -> None:
        id_ = (await bench.work.submit(b"", order())).record.id
        for start in range(MOST_STARTS):
            (await bench.calls(start + 1))[start].answer.set_exception(BackendLost("gone"))
        await bench.state(id_, State.FAILED)
        assert (await bench.work.look(id_)).record.problem["type"] == "job-interrupted"  # type: ignore[index]
        assert len(bench.restorer.calls) == MOST_STARTS

    play(scenario)


def test_nothing_begins_in_a_drain_and_what_it_interrupts_waits_as_before(play: Any, order: NewOrder) -> None:
    async def scenario(bench: Bench) -> None:
        ids = [(await bench.work.submit(b"", order())).record.id for _ in range(CONCURRENT + 1)]
        calls = await bench.calls(CONCURRENT)
        assert bench.restorer.active == CONCURRENT  # so the drain waits for them
        bench.restorer.status = Status.DRAINING
        calls[0].answer.set_result(b"")
        calls[1].answer.set_exception(BackendLost("stopped before it was done"))
        await bench.state(ids[0], State.DONE)
        await bench.state(ids[1], State.QUEUED)
        assert (await bench.work.look(ids[1])).record.starts == 0
        assert len(bench.restorer.calls) == CONCURRENT

    play(scenario)


def test_a_stop_puts_back_what_runs(play: Any, order: NewOrder, tmp_path: Path, clock: Any) -> None:
    ids = []

    async def scenario(bench: Bench) -> None:
        ids.append((await bench.work.submit(b"", order())).record.id)
        await bench.calls(1)

    play(scenario)
    store = BatchStore(tmp_path, 10**7, 3600, clock)
    store.open()
    record = store.find(ids[0])
    assert (record.state, record.starts) == (State.QUEUED, 0)
    store.close()


def below() -> Exception:
    error = ValueError("words that nobody reads")
    error.__cause__ = MemoryError()
    return error


@pytest.mark.parametrize("short", [MemoryError, below, lambda: MemoryShort("none left")])
def test_a_lack_of_memory_is_worth_some_more_starts_and_a_pause_before_each(
    short: Callable[[], Exception], play: Any, order: NewOrder, clock: Any
) -> None:
    async def scenario(bench: Bench) -> None:
        id_ = (await bench.work.submit(b"", order())).record.id
        for start in range(MOST_STARTS):
            (await bench.calls(start + 1))[start].answer.set_exception(short())
            await bench.state(id_, State.QUEUED)
            assert len(bench.restorer.calls) == start + 1
            clock.now += LONGEST_PAUSE_S
            bench.runner.wake()
        await bench.state(id_, State.FAILED)
        assert (await bench.work.look(id_)).record.problem["type"] == "job-interrupted"  # type: ignore[index]

    play(scenario)


def test_a_disk_that_fails_at_the_end_of_a_job_costs_the_job_nothing(
    play: Any, order: NewOrder, clock: Any, tmp_path: Path
) -> None:
    async def scenario(bench: Bench) -> None:
        id_ = (await bench.work.submit(b"upload", order())).record.id
        (call,) = await bench.calls(1)
        (tmp_path / "results").rename(tmp_path / "away")
        call.answer.set_result(b"restored")
        await bench.until(lambda: isinstance(bench.work.trouble, JobsUnavailable))
        await bench.until(lambda: not bench.runner.runs)
        (tmp_path / "away").rename(tmp_path / "results")
        clock.now += LONGEST_PAUSE_S
        bench.runner.wake()
        (await bench.calls(2))[1].answer.set_result(b"restored")
        await bench.state(id_, State.DONE)
        assert bench.work.trouble is None

    play(scenario)


def test_an_upload_that_was_changed_ends_its_job_and_not_the_next(play: Any, order: NewOrder, tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.restorer.status = Status.STARTING
        ids = [(await bench.work.submit(b"upload", order())).record.id for _ in range(2)]
        (tmp_path / "uploads" / ids[0]).write_bytes(b"")
        bench.restorer.status = Status.READY
        await bench.state(ids[0], State.FAILED)
        problem = (await bench.work.look(ids[0])).record.problem
        assert problem is not None
        assert problem["type"] == "job-damaged"
        (await bench.calls(1))[0].answer.set_result(b"")
        await bench.state(ids[1], State.DONE)

    play(scenario)


def test_a_deadline_counts_from_the_order_and_ends_a_job_that_waits(play: Any, order: NewOrder, clock: Any) -> None:
    async def scenario(bench: Bench) -> None:
        in_time = (await bench.work.submit(b"", order(deadline_at=clock.now + 5))).record.id
        late = (await bench.work.submit(b"", order(deadline_at=clock.now))).record.id
        assert (await bench.calls(1))[0].deadline == 5
        await bench.state(late, State.FAILED)
        problem = (await bench.work.look(late)).record.problem
        assert problem is not None
        assert problem["type"] == DeadlineExceeded.slug
        assert (await bench.work.look(in_time)).record.state is State.RUNNING

    play(scenario)


def test_a_watcher_hears_of_each_change_once_and_of_the_end_last(play: Any, order: NewOrder) -> None:
    async def scenario(bench: Bench) -> None:
        id_ = (await bench.work.submit(b"", order())).record.id
        (call,) = await bench.calls(1)
        news = bench.work.watch(id_, None)
        heard = []
        for done in range(3):
            call.progress(done, 4)
            if (now := await anext(news)) is not None:
                heard.append((now.record.state, now.done))
        call.answer.set_result(b"")
        heard += [(now.record.state, now.done) async for now in news if now is not None]
        assert heard == [(State.RUNNING, 0), (State.RUNNING, 1), (State.RUNNING, 2), (State.DONE, 4)]
        last = await bench.work.look(id_)
        assert [now async for now in bench.work.watch(id_, last.mark)] == []

    play(scenario)


def test_a_watcher_of_a_job_that_is_removed_hears_no_more(play: Any, order: NewOrder) -> None:
    async def scenario(bench: Bench) -> None:
        id_ = (await bench.work.submit(b"", order())).record.id
        await bench.calls(1)
        news = bench.work.watch(id_, None)
        await anext(news)
        await bench.work.give_up(id_)
        await bench.work.give_up(id_)
        assert [now async for now in news] == []

    play(scenario)
