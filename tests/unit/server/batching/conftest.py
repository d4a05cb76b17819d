"""Fixtures of the batching tests: a clock that is set by hand, a registry, tiles, and a scenario runner."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from server.backends.base import Pixels
from server.metrics import Metrics

Result = TypeVar("Result")
# A scenario that hangs fails instead of holding up the suite; none comes near it.
HANG_S = 20.0


class ManualClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


@pytest.fixture(scope="session")
def tile() -> Callable[..., Pixels]:
    """Make a tile (3, height, width) of one value."""

    def make(height: int = 8, width: int = 8, value: float = 0.0) -> Pixels:
        return np.full((3, height, width), value, np.float32)

    return make


@pytest.fixture(scope="session")
def play() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a scenario on a new event loop; an error that reached the loop itself fails the test."""

    def run(scenario: Coroutine[Any, Any, Result]) -> Result:
        async def guarded() -> Result:
            stray: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: stray.append(context))
            async with asyncio.timeout(HANG_S):
                result = await scenario
            assert stray == []
            return result

        return asyncio.run(guarded())

    return run


@pytest.fixture(scope="session")
def clock_type() -> type[ManualClock]:
    """The clock itself, for tests that need a new one for each example."""
    return ManualClock
