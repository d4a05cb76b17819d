"""Tests of the bounds on thread pools that are not ours."""

import asyncio
import threading
import time

from anyio import to_thread

from server.thread_bounds import WAITING_THREADS, bound_pools


def test_both_pools_have_a_thread_a_core_and_a_few_that_wait() -> None:
    seen = set[int]()

    def work() -> None:
        seen.add(threading.get_ident())
        time.sleep(0.001)

    async def scenario() -> None:
        bound_pools(1)
        await asyncio.gather(*(asyncio.to_thread(work) for _ in range(50)))
        assert len(seen) <= 1 + WAITING_THREADS
        assert to_thread.current_default_thread_limiter().total_tokens == 1 + WAITING_THREADS

    asyncio.run(scenario())
