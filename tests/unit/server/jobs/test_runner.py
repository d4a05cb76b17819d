"""Tests of the Runner: the order of jobs, their progress, and how clients and a stop interrupt them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from long_work import LongWorkParts

from server.errors import (
    BackendLost,
    DeadlineExceeded,
)
from server.jobs.batch_store import BatchStore
from server.jobs.record import Order, State
from server.jobs.runner import CONCURRENT
from server.restore.pipeline import Status
from server.scheduling.queue.tile import Priority

NewOrder = Callable[..., Order]


def test_a_bounded_number_runs_at_a_time_as_batch_work_in_the_order_it_came(play: Any, order: NewOrder) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        ids = [(await parts.work.submit(bytes([n]), order())).record.id for n in range(CONCURRENT + 1)]
        calls = await parts.calls(CONCURRENT)
        assert (await parts.work.look(ids[-1])).record.state is State.QUEUED
        assert [call.data for call in calls] == [bytes([n]) for n in range(CONCURRENT)]
        assert {call.priority for call in calls} == {Priority.BATCH}
        calls[0].answer.set_result(b"restored")
        await parts.state(ids[0], State.DONE)
        assert (await parts.calls(CONCURRENT + 1))[-1].data == bytes([CONCURRENT])
        with (await parts.work.open_result(ids[0]))[2] as file:
            assert file.read() == b"restored"

    play(scenario)


def test_progress_and_the_time_that_is_left_come_from_the_tiles_that_ran(
    play: Any, order: NewOrder, clock: Any
) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        id_ = (await parts.work.submit(b"", order())).record.id
        (call,) = await parts.calls(1)
        assert (await parts.work.look(id_)).left_s is None
        clock.now += 6
        call.progress(3, 4)
        now = await parts.work.look(id_)
        assert (now.done, now.total, now.left_s) == (3, 4, 2.0)

    play(scenario)


def test_the_wait_in_the_queue_is_predicted_from_jobs_that_ended(play: Any, order: NewOrder, clock: Any) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        first = (await parts.work.submit(b"", order(pixels=100))).record.id
        (call,) = await parts.calls(1)
        clock.now += 10
        call.answer.set_result(b"")
        await parts.state(first, State.DONE)
        for _ in range(CONCURRENT):
            await parts.work.submit(b"", order(pixels=200))
        await parts.calls(1 + CONCURRENT)
        await parts.work.submit(b"", order(pixels=400))
        last = await parts.work.submit(b"", order(pixels=100))
        # 0.1 s a pixel: those that run and the one ahead share the places, then its own 10 s.
        assert last.left_s == (CONCURRENT * 20 + 40) / CONCURRENT + 10

    play(scenario)


def test_a_cancelled_job_stops_its_restoration_and_makes_room(play: Any, order: NewOrder) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        ids = [(await parts.work.submit(b"", order())).record.id for _ in range(CONCURRENT + 1)]
        await parts.calls(CONCURRENT)
        await parts.work.give_up(ids[0])
        await parts.calls(CONCURRENT + 1)
        assert parts.restorer.cancelled == 1
        assert (await parts.work.look(ids[0])).record.state is State.CANCELLED

    play(scenario)


def test_a_job_that_is_cancelled_before_its_first_step_leaves_its_place(play: Any, order: NewOrder) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        notify, withdrawn = parts.runner.notifier.notify, []

        def withdraw_at_once(id_: str, *others: str | None) -> None:
            notify(id_, *others)
            if id_ in parts.runner.runs and not withdrawn:
                withdrawn.append(id_)
                parts.runner.withdraw(id_)

        parts.runner.notifier.notify = withdraw_at_once  # type: ignore[method-assign]
        for n in range(CONCURRENT + 1):
            await parts.work.submit(bytes([n]), order())
        assert [call.data for call in await parts.calls(CONCURRENT)] == [bytes([n + 1]) for n in range(CONCURRENT)]

    play(scenario)


def test_nothing_begins_in_a_drain_and_what_it_interrupts_waits_as_before(play: Any, order: NewOrder) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        ids = [(await parts.work.submit(b"", order())).record.id for _ in range(CONCURRENT + 1)]
        calls = await parts.calls(CONCURRENT)
        assert parts.restorer.active == CONCURRENT  # so the drain waits for them
        parts.restorer.status = Status.DRAINING
        calls[0].answer.set_result(b"")
        calls[1].answer.set_exception(BackendLost("stopped before it was done"))
        await parts.state(ids[0], State.DONE)
        await parts.state(ids[1], State.QUEUED)
        assert (await parts.work.look(ids[1])).record.starts == 0
        assert len(parts.restorer.calls) == CONCURRENT

    play(scenario)


def test_a_stop_puts_back_what_runs(play: Any, order: NewOrder, tmp_path: Path, clock: Any) -> None:
    ids = []

    async def scenario(parts: LongWorkParts) -> None:
        ids.append((await parts.work.submit(b"", order())).record.id)
        await parts.calls(1)

    play(scenario)
    store = BatchStore(tmp_path, 10**7, 3600, clock)
    store.open()
    record = store.find(ids[0])
    assert (record.state, record.starts) == (State.QUEUED, 0)
    store.close()


def test_a_deadline_counts_from_the_order_and_ends_a_job_that_waits(play: Any, order: NewOrder, clock: Any) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        in_time = (await parts.work.submit(b"", order(deadline_at=clock.now + 5))).record.id
        late = (await parts.work.submit(b"", order(deadline_at=clock.now))).record.id
        assert (await parts.calls(1))[0].deadline == 5
        await parts.state(late, State.FAILED)
        problem = (await parts.work.look(late)).record.problem
        assert problem is not None
        assert problem["type"] == DeadlineExceeded.slug
        assert (await parts.work.look(in_time)).record.state is State.RUNNING

    play(scenario)
