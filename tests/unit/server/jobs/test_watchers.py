"""Tests of those who watch a job: each change once, and the end last."""

from collections.abc import Callable
from typing import Any

from long_work import LongWorkParts

from server.jobs.record import Order, State

NewOrder = Callable[..., Order]


def test_a_watcher_hears_of_each_change_once_and_of_the_end_last(play: Any, order: NewOrder) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        id_ = (await parts.work.submit(b"", order())).record.id
        (call,) = await parts.calls(1)
        news = parts.work.watch(id_, None)
        heard = []
        for done in range(3):
            call.progress(done, 4)
            if (now := await anext(news)) is not None:
                heard.append((now.record.state, now.done))
        call.answer.set_result(b"")
        heard += [(now.record.state, now.done) async for now in news if now is not None]
        assert heard == [(State.RUNNING, 0), (State.RUNNING, 1), (State.RUNNING, 2), (State.DONE, 4)]
        last = await parts.work.look(id_)
        assert [now async for now in parts.work.watch(id_, last.mark)] == []

    play(scenario)


def test_a_watcher_of_a_job_that_is_removed_hears_no_more(play: Any, order: NewOrder) -> None:
    async def scenario(parts: LongWorkParts) -> None:
        id_ = (await parts.work.submit(b"", order())).record.id
        await parts.calls(1)
        news = parts.work.watch(id_, None)
        await anext(news)
        await parts.work.give_up(id_)
        await parts.work.give_up(id_)
        assert [now async for now in news] == []

    play(scenario)
