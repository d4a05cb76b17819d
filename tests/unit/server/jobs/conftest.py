"""Parts that long work is tested with: a clock, an order, an answer."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from long_work import LongWorkParts, Restorations
from prometheus_client import CollectorRegistry

from server.formats.output import OutputFormat
from server.jobs.batch_store import BatchStore
from server.jobs.long_work import LongWork
from server.jobs.record import Answer, Order, options_json
from server.jobs.runner import Runner
from server.jobs.store_thread import StoreThread
from server.metrics import Metrics
from server.restore.options import Mode, RestoreOptions

Scenario = Callable[[LongWorkParts], Coroutine[Any, Any, None]]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def order() -> Callable[..., Order]:
    """An order with defaults that no test looks at."""

    def ordered(
        result_bytes: int = 100, pixels: int = 64, filename: str | None = None, deadline_at: float | None = None
    ) -> Order:
        return Order(options_json(RestoreOptions()), filename, pixels, result_bytes, deadline_at)

    return ordered


@pytest.fixture
def answer() -> Answer:
    return Answer(OutputFormat.PNG, 8, 8, Mode.WHOLE, 1)


@pytest.fixture
def play(tmp_path: Path, clock: Any) -> Callable[[Scenario], None]:
    """Run a scenario with long work that is started, and stop it."""

    async def played(scenario: Scenario) -> None:
        store, thread, restorer = BatchStore(tmp_path, 10**7, 3600, clock), StoreThread(), Restorations()
        runner = Runner(
            store,
            thread,
            restorer,
            lambda error, instance: {"type": error.slug, "instance": instance},
            lambda restored: {},
            clock,
            clock,
        )
        work = LongWork(store, thread, runner, Metrics(CollectorRegistry()))
        await work.start()
        try:
            await scenario(LongWorkParts(work, runner, store, restorer))
        finally:
            await work.stop()

    return lambda scenario: asyncio.run(played(scenario))
