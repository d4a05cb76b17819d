"""Tests of work that ends with its client."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable

import pytest
from starlette.requests import ClientDisconnect

from server.http.body import cancellation
from server.http.body.cancellation import WATCHED_AFTER_S, WhileConnected


class Connection:
    """The receiving end of a request whose body was read."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, object]:
        await self.gone.wait()
        return {"type": "http.disconnect"}


def play(scene: Callable[[Connection], Awaitable[None]]) -> None:
    async def run() -> None:
        await scene(Connection())

    asyncio.run(run())


def test_a_client_that_leaves_cancels_the_work_and_is_a_disconnect() -> None:
    cancelled = []

    async def work(connection: Connection) -> None:
        with WhileConnected(connection.receive):
            connection.gone.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                cancelled.append(error)
                raise

    async def scene(connection: Connection) -> None:
        with pytest.raises(ClientDisconnect):
            await work(connection)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)  # would raise if a cancellation were still due

    play(scene)
    assert len(cancelled) == 1


def test_a_client_that_stays_changes_nothing_and_the_watch_ends() -> None:
    async def scene(connection: Connection) -> None:
        before = asyncio.all_tasks()
        with WhileConnected(connection.receive):
            await asyncio.sleep(2 * WATCHED_AFTER_S)
            assert len(asyncio.all_tasks()) == len(before) + 1
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before

    play(scene)


def test_work_that_ends_soon_is_not_watched_and_ends_though_its_client_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "WATCHED_AFTER_S", 60.0)

    async def scene(connection: Connection) -> None:
        tasks = asyncio.all_tasks()
        with WhileConnected(connection.receive):
            connection.gone.set()
            await asyncio.sleep(0.01)
            assert asyncio.all_tasks() == tasks

    play(scene)


def test_a_client_that_left_during_short_work_is_a_disconnect_where_the_connection_tells() -> None:
    done = []

    async def work(connection: Connection) -> None:
        with WhileConnected(connection.receive, connection.gone.is_set):
            connection.gone.set()
            await asyncio.sleep(0)
            done.append(True)

    async def scene(connection: Connection) -> None:
        with pytest.raises(ClientDisconnect):
            await work(connection)
        with pytest.raises(ZeroDivisionError), WhileConnected(connection.receive, connection.gone.is_set):
            raise ZeroDivisionError

    play(scene)
    assert done


def test_longer_work_of_a_client_that_left_before_it_is_watched_is_cancelled() -> None:
    async def scene(connection: Connection) -> None:
        connection.gone.set()
        with pytest.raises(ClientDisconnect), WhileConnected(connection.receive):
            await asyncio.wait_for(asyncio.Event().wait(), 60)

    play(scene)


@pytest.mark.usefixtures("without_collector")
def test_a_watch_that_ended_leaves_nothing_to_the_garbage_collector() -> None:
    async def scene(connection: Connection) -> None:
        watching = WhileConnected(connection.receive)
        with watching:
            await asyncio.sleep(2 * WATCHED_AFTER_S)
        left = weakref.ref(watching)
        del watching
        await asyncio.sleep(0.01)  # the cancelled watch ends
        assert left() is None

    play(scene)


def test_an_error_of_the_work_stays_itself() -> None:
    async def work(connection: Connection) -> None:
        with WhileConnected(connection.receive):
            await asyncio.sleep(0)
            raise ZeroDivisionError

    async def scene(connection: Connection) -> None:
        with pytest.raises(ZeroDivisionError):
            await work(connection)

    play(scene)


def test_a_cancellation_from_elsewhere_stays_a_cancellation() -> None:
    async def scene(connection: Connection) -> None:
        async def work() -> None:
            with WhileConnected(connection.receive):
                await asyncio.Event().wait()

        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    play(scene)
