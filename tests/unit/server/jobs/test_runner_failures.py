"""Tests of the Runner: what ends a job, and what only delays it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from long_work import LongWorkParts

from server.errors import (
    BackendLost,
    JobsUnavailable,
    MemoryShort,
    QueueFull,
    UndecodableImage,
)
from server.jobs.record import Order, State
from server.jobs.runner import LONGEST_PAUSE_S, MOST_STARTS
from server.restore.pipeline import Status

NewOrder = Callable[..., Order]


def test_an_error_of_the_image_ends_the_job_with_its_problem(play: Any, order: NewOrder) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        id_ = (await parts.work.submit(b"", order())).record.id
        (await parts.calls(1))[0].answer.set_exception(UndecodableImage("broken"))
        await parts.state(id_, State.FAILED)
        problem = (await parts.work.look(id_)).record.problem
        assert problem == {"type": "undecodable-image", "instance": f"urn:promptir:job:{id_}"}

    play(scenario)


def test_an_error_that_nobody_foresaw_ends_one_job_and_not_the_next(play: Any, order: NewOrder) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        ids = [(await parts.work.submit(b"", order())).record.id for _ in range(2)]
        calls = await parts.calls(2)
        calls[0].answer.set_exception(ZeroDivisionError())
        calls[1].answer.set_result(b"")
        await parts.state(ids[0], State.FAILED)
        await parts.state(ids[1], State.DONE)

    play(scenario)


def test_a_full_queue_is_waited_for_and_the_job_goes_on(play: Any, order: NewOrder) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        id_ = (await parts.work.submit(b"upload", order())).record.id
        (await parts.calls(1))[0].answer.set_exception(QueueFull("full", retry_after_s=0.0))
        (await parts.calls(2))[1].answer.set_result(b"")
        await parts.state(id_, State.DONE)
        assert (await parts.work.look(id_)).record.starts == 1

    play(scenario)


def test_a_lost_device_is_worth_some_more_starts(play: Any, order: NewOrder) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        id_ = (await parts.work.submit(b"", order())).record.id
        for start in range(MOST_STARTS):
            (await parts.calls(start + 1))[start].answer.set_exception(BackendLost("gone"))
        await parts.state(id_, State.FAILED)
        assert (await parts.work.look(id_)).record.problem["type"] == "job-interrupted"  # type: ignore[index]
        assert len(parts.restorer.calls) == MOST_STARTS

    play(scenario)


def below() -> Exception:
    error = ValueError("words that nobody reads")
    error.__cause__ = MemoryError()
    return error


@pytest.mark.parametrize("short", [MemoryError, below, lambda: MemoryShort("none left")])
def test_a_lack_of_memory_is_worth_some_more_starts_and_a_pause_before_each(
    short: Callable[[], Exception], play: Any, order: NewOrder, clock: Any
) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        id_ = (await parts.work.submit(b"", order())).record.id
        for start in range(MOST_STARTS):
            (await parts.calls(start + 1))[start].answer.set_exception(short())
            await parts.state(id_, State.QUEUED)
            assert len(parts.restorer.calls) == start + 1
            clock.now += LONGEST_PAUSE_S
            parts.runner.wake()
        await parts.state(id_, State.FAILED)
        assert (await parts.work.look(id_)).record.problem["type"] == "job-interrupted"  # type: ignore[index]

    play(scenario)


def test_a_disk_that_fails_at_the_end_of_a_job_costs_the_job_nothing(
    play: Any, order: NewOrder, clock: Any, tmp_path: Path
) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        id_ = (await parts.work.submit(b"upload", order())).record.id
        (call,) = await parts.calls(1)
        (tmp_path / "results").rename(tmp_path / "away")
        call.answer.set_result(b"restored")
        await parts.until(lambda: isinstance(parts.work.trouble, JobsUnavailable))
        await parts.until(lambda: not parts.runner.runs)
        (tmp_path / "away").rename(tmp_path / "results")
        clock.now += LONGEST_PAUSE_S
        parts.runner.wake()
        (await parts.calls(2))[1].answer.set_result(b"restored")
        await parts.state(id_, State.DONE)
        assert parts.work.trouble is None

    play(scenario)


def test_an_upload_that_was_changed_ends_its_job_and_not_the_next(play: Any, order: NewOrder, tmp_path: Path) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        parts.restorer.status = Status.STARTING
        ids = [(await parts.work.submit(b"upload", order())).record.id for _ in range(2)]
        (tmp_path / "uploads" / ids[0]).write_bytes(b"")
        parts.restorer.status = Status.READY
        await parts.state(ids[0], State.FAILED)
        problem = (await parts.work.look(ids[0])).record.problem
        assert problem is not None
        assert problem["type"] == "job-damaged"
        (await parts.calls(1))[0].answer.set_result(b"")
        await parts.state(ids[1], State.DONE)

    play(scenario)
