"""Parts that long work is tested with: a clock, an order, an answer."""

from collections.abc import Callable

import pytest

from server.formats.output import OutputFormat
from server.jobs.record import Answer, Order, options_json
from server.restore.options import Mode, RestoreOptions


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
