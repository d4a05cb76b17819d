"""Tests of the bounds on libraries' thread pools."""

import asyncio
import threading
import time

from anyio import to_thread

from server.concurrency import SPARE_THREADS, bound_thread_pools


def test_both_pools_have_a_thread_a_core_and_a_few_that_wait() -> None:
    seen = set[int]()

    def work() -> None:
        seen.add(threading.get_ident())
        time.sleep(0.001)

    async def scenario() -> None:
        bound_thread_pools(1)
        await asyncio.gather(*(asyncio.to_thread(work) for _ in range(50)))
        assert len(seen) <= 1 + SPARE_THREADS
        assert to_thread.current_default_thread_limiter().total_tokens == 1 + SPARE_THREADS

    asyncio.run(scenario())
