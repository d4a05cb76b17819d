"""Tests of the threads that do CPU work for the event loop."""

import asyncio
import gc
import os
import sys
import threading
import weakref

import pytest

from server.restore.worker_threads import BACKGROUND_NICENESS, WorkerThreads


def test_results_and_errors_come_back_to_their_callers() -> None:
    async def scene() -> None:
        threads = WorkerThreads(2, "test")
        results = await asyncio.gather(*(threads.run(lambda number=number: number * number) for number in range(20)))
        assert results == [number * number for number in range(20)]
        with pytest.raises(ZeroDivisionError):
            await threads.run(lambda: 1 // 0)
        threads.stop()

    asyncio.run(scene())


def test_work_that_raises_stop_iteration_ends_with_an_error_and_does_not_hang() -> None:
    async def scene() -> None:
        threads = WorkerThreads(1, "test")
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(threads.run(lambda: next(iter(()))), 10)
        assert await threads.run(lambda: 1) == 1
        threads.stop()

    asyncio.run(scene())


def test_work_that_is_cancelled_while_it_waits_is_not_done() -> None:
    gate, ran = threading.Event(), []

    async def scene() -> None:
        threads = WorkerThreads(1, "test")
        running = asyncio.ensure_future(threads.run(lambda: gate.wait(10)))
        waiting = asyncio.ensure_future(threads.run(lambda: ran.append(1)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.set()
        await running
        await threads.run(lambda: None)  # behind what was cancelled
        threads.stop()

    asyncio.run(scene())
    assert not ran


def test_an_idle_thread_holds_neither_work_nor_result() -> None:
    class Image:
        pass

    async def scene() -> weakref.ref[Image]:
        threads = WorkerThreads(1, "test")
        image = Image()
        known = weakref.ref(image)
        await threads.run(lambda image=image: image)
        del image
        await threads.run(lambda: None)
        return known

    known = asyncio.run(scene())
    gc.collect()
    assert known() is None


def test_after_the_stop_work_is_refused() -> None:
    async def scene() -> None:
        threads = WorkerThreads(1, "test")
        await threads.run(lambda: None)
        threads.stop()
        with pytest.raises(RuntimeError, match="stopped"):
            await threads.run(lambda: None)

    asyncio.run(scene())


def test_without_any_thread_the_caller_gets_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scene() -> None:
        threads = WorkerThreads(1, "test")
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_memory)
            with pytest.raises(RuntimeError, match="start new thread"):
                await threads.run(lambda: 1)
        assert await threads.run(lambda: 2) == 2
        threads.stop()

    asyncio.run(scene())


@pytest.mark.skipif(sys.platform != "linux", reason="niceness is that of a thread only on Linux")
def test_only_background_threads_leave_the_cores_to_others() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def scene() -> None:
        before = niceness()
        background, foreground = WorkerThreads(1, "test", background=True), WorkerThreads(1, "test")
        assert await background.run(niceness) == min(19, before + BACKGROUND_NICENESS)
        assert await foreground.run(niceness) == niceness() == before
        background.stop()
        foreground.stop()

    asyncio.run(scene())
