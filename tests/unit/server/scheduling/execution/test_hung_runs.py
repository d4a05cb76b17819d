"""Tests of the Supervisor: runs that hang, and the workers that are abandoned with them."""

import asyncio
from collections.abc import Callable
from typing import Any

from lost_devices import Backends, rebuilds
from prometheus_client import CollectorRegistry
from waiting import all_ends, until

from server.backends.base import Pixels
from server.errors import BackendLost
from server.scheduling.execution.supervisor import MOST_HUNG

MakePixels = Callable[..., Pixels]
Play = Callable[..., Any]
PATIENCE_S = 10.0
TIMEOUT_S = 30.0


def test_a_run_that_hangs_is_given_up_and_the_next_one_has_a_fresh_backend(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels, clock: Any, registry: CollectorRegistry
) -> None:
    backends = Backends(scripted)
    batcher, pool = build(backends, clock=clock, run_timeout_s=TIMEOUT_S)

    async def scenario() -> None:
        await pool.start()
        stuck = backends.made[0]
        stuck.hold_runs()
        running = asyncio.create_task(batcher.submit(make_pixels(value=1)))
        await stuck.running()
        waiting = asyncio.create_task(batcher.submit(make_pixels(value=2)))
        await asyncio.sleep(0)
        clock.advance(TIMEOUT_S + 1)
        assert type((await all_ends(running))[0]) is BackendLost
        assert (await waiting).output[0, 0, 0] == 2
        assert stuck.stops == 0
        # It comes back after all: too late to matter, and it takes no more work.
        stuck.released.set()
        await until(lambda: stuck.stops == 1)
        assert len(stuck.shapes) == 1
        assert (await batcher.submit(make_pixels(value=3))).output[0, 0, 0] == 3
        assert len(stuck.shapes) == 1
        await pool.stop(PATIENCE_S)

    play(scenario())
    assert rebuilds(registry) == 1
    assert batcher.queue.running == []


def test_no_further_backend_is_made_while_several_runs_hang(
    build: Any, scripted: Any, play: Play, make_pixels: MakePixels, clock: Any
) -> None:
    backends = Backends(scripted)
    batcher, pool = build(backends, clock=clock, run_timeout_s=TIMEOUT_S)

    async def scenario() -> None:
        await pool.start()
        for number in range(MOST_HUNG):
            await until(lambda: pool.ready)
            backends.made[number].hold_runs()
            running = asyncio.create_task(batcher.submit(make_pixels()))
            await backends.made[number].running()
            clock.advance(TIMEOUT_S + 1)
            assert type((await all_ends(running))[0]) is BackendLost
        await until(lambda: pool.failure is not None)
        assert "runs hang" in str(pool.failure)
        assert len(backends.made) == MOST_HUNG
        for backend in backends.made:
            backend.released.set()
        await pool.stop(PATIENCE_S)

    play(scenario())
