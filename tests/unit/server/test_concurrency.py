"""Tests of gathering coroutines and running work in threads."""

import asyncio
import time
import weakref
from contextlib import suppress

import pytest

from server import logs
from server.concurrency import INLINE_BYTES, LARGE_BYTES, gather, run_off_loop


def test_results_keep_their_order() -> None:
    async def after(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(gather(after(turns) for turns in (3, 1, 2))) == [3, 1, 2]


def test_the_first_failure_is_raised_as_it_is_and_ends_the_rest() -> None:
    ended = []

    async def fail() -> None:
        raise KeyError("first")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(KeyError, match="first"):
        asyncio.run(gather([wait(), fail(), wait()]))
    assert ended == [True, True]


class Pixels:
    """What works hold."""


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("is_cancelled", [False, True])
def test_what_works_held_is_gone_when_one_fails_or_all_are_cancelled(is_cancelled: bool) -> None:
    alive: weakref.WeakSet[Pixels] = weakref.WeakSet()

    async def work(fails: bool) -> None:
        pixels = Pixels()
        alive.add(pixels)
        await asyncio.sleep(0)
        if fails:
            raise KeyError
        await asyncio.Event().wait()

    async def all_works() -> None:
        await gather(work(fails and not is_cancelled) for fails in (False, True, False))

    async def run() -> None:
        task = asyncio.create_task(all_works())
        await asyncio.sleep(0.01)
        if is_cancelled:
            task.cancel()
        with suppress(KeyError, asyncio.CancelledError):
            await task
        del task
        await asyncio.sleep(0)  # the loop still holds the task in this turn
        assert not alive

    asyncio.run(run())


@pytest.mark.parametrize("size", [0, INLINE_BYTES, INLINE_BYTES + 1])
def test_work_answers_wherever_it_is_done(size: int) -> None:
    assert asyncio.run(run_off_loop(lambda: size + 1, size)) == size + 1


def test_large_work_is_done_one_at_a_time_with_the_context_of_its_caller() -> None:
    under_way: list[int] = []
    most: list[int] = []
    seen: list[str | None] = []

    def work() -> None:
        under_way.append(1)
        time.sleep(0.01)
        most.append(len(under_way))
        seen.append(logs.request_id.get())
        under_way.pop()

    async def one(name: str) -> None:
        logs.request_id.set(name)
        await run_off_loop(work, LARGE_BYTES + 1)

    async def run() -> None:
        await asyncio.gather(*(one(str(number)) for number in range(5)))

    asyncio.run(run())
    assert most == [1] * 5
    assert sorted(filter(None, seen)) == ["0", "1", "2", "3", "4"]
