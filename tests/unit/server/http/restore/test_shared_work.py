"""Tests of equal requests that are one."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import pytest

from server.http.restore.shared_work import SharedWork


class Work:
    """Counts its beginnings; ends when told, with its number or an error."""

    def __init__(self) -> None:
        self.begun = self.cancelled = 0
        self.end = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return number


def play(scene: Callable[[SharedWork[int], Work], Awaitable[None]]) -> None:
    async def run() -> None:
        await scene(SharedWork(), Work())

    asyncio.run(run())


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_equal_keys_run_once_and_others_by_themselves() -> None:
    async def scene(shared: SharedWork[int], work: Work) -> None:
        tasks = [asyncio.create_task(shared.join(key, work)) for key in ("a", "a", "b", "a")]
        await turns()
        assert "a" in shared
        work.end.set()
        assert await asyncio.gather(*tasks) == [1, 1, 2, 1]
        await turns()
        assert "a" not in shared
        assert await shared.join("a", work) == 3

    play(scene)


def test_it_goes_on_until_the_last_of_its_clients_has_left() -> None:
    async def scene(shared: SharedWork[int], work: Work) -> None:
        first, second = (asyncio.create_task(shared.join("a", work)) for _ in range(2))
        await turns()
        first.cancel()
        await turns()
        assert (work.cancelled, first.cancelled()) == (0, True)
        second.cancel()
        await turns()
        assert (work.begun, work.cancelled) == (1, 1)
        assert "a" not in shared

    play(scene)


def test_who_comes_after_the_last_has_left_begins_anew() -> None:
    async def scene(shared: SharedWork[int], work: Work) -> None:
        first = asyncio.create_task(shared.join("a", work))
        await turns()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        work.end.set()
        assert await shared.join("a", work) == 2

    play(scene)


def test_all_get_its_error() -> None:
    async def scene(shared: SharedWork[int], work: Work) -> None:
        work.error = ValueError("broken")
        work.end.set()
        tasks = [asyncio.create_task(shared.join("a", work)) for _ in range(3)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [str(result) for result in results] == ["broken"] * 3
        assert work.begun == 1

    play(scene)


def test_what_the_first_client_holds_is_closed_at_the_end_of_the_work_and_what_others_hold_at_once() -> None:
    closed: list[str] = []

    async def scene(shared: SharedWork[int], work: Work) -> None:
        first = asyncio.create_task(shared.join("a", work, lambda: closed.append("first")))
        second = asyncio.create_task(shared.join("a", work, lambda: closed.append("second")))
        await turns()
        assert closed == ["second"]
        first.cancel()
        await turns()
        assert closed == ["second"]  # the work continues for the second client
        work.end.set()
        assert await second == 1
        await turns()
        assert closed == ["second", "first"]

    play(scene)


def test_what_is_held_for_work_that_is_cancelled_before_it_starts_is_closed_too() -> None:
    closed: list[str] = []

    async def scene(shared: SharedWork[int], work: Work) -> None:
        joined = asyncio.create_task(shared.join("a", work, lambda: closed.append("first")))
        await asyncio.sleep(0)  # the task of the work is made, and has not started
        (task,) = asyncio.all_tasks() - {asyncio.current_task(), joined}
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joined
        assert (work.begun, closed) == (0, ["first"])

    play(scene)


@pytest.mark.usefixtures("without_collector")
def test_what_failed_is_released_without_a_garbage_collection() -> None:
    class Upload:
        """Something as large as a photo."""

    async def fail(upload: Upload) -> None:
        raise ValueError

    async def run() -> bool:
        shared: SharedWork[None] = SharedWork()
        upload = Upload()
        seen = weakref.ref(upload)
        start = partial(fail, upload)
        del upload
        joined = shared.join("key", start)
        del start
        with suppress(ValueError):
            await joined
        await asyncio.sleep(0)
        return seen() is None

    assert asyncio.run(run())
