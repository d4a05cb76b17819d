"""Tests of the load generator: timing of requests and handling of failures."""

import asyncio
import selectors
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from server.cli.bench.load import PACER, PAUSE_AFTER_FAILURE_S, Load, apply
from server.cli.bench.sender import Answer
from server.cli.bench.uploads import Body, Kind

KINDS = [Kind("8x8 png", (Body(b"image", "image/png"),))]


class SkippingSelector(selectors.DefaultSelector):
    """Lets no time pass where a loop would wait, and notes how long that was."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0)


Play = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Run a coroutine in a time that passes in waits alone, as on a machine that does nothing else."""

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        selector = SkippingSelector()
        monkeypatch.setattr("server.cli.bench.load.time.perf_counter", lambda: selector.now)
        loop = asyncio.SelectorEventLoop(selector)
        loop.time = lambda: selector.now  # type: ignore[method-assign]
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(work)

    return run


class Answering:
    """Fake Sender that answers after some seconds, or when `hold` requests are open at once."""

    def __init__(self, outcome: str = "200", hold: int = 0, seconds: float = 0.0) -> None:
        self.open = self.most_open = 0
        self._outcome = outcome
        self._hold = hold
        self._seconds = seconds
        self.first, self._reached = asyncio.Event(), asyncio.Event()

    async def send(self, kind: int, body: Body, intended_at: float) -> Answer:
        sent_at = time.perf_counter()
        self.first.set()
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        if self.open >= self._hold:
            self._reached.set()
        await asyncio.sleep(self._seconds)
        await self._reached.wait()
        self.open -= 1
        return Answer(kind, intended_at, sent_at, time.perf_counter(), self._outcome, answered=True)


class Recorder:
    """Probe that records the times of its calls."""

    def __init__(self) -> None:
        self.calls: list[float] = []

    async def begin(self) -> None:
        self.calls.append(time.perf_counter())

    end = begin


def test_a_closed_loop_has_one_request_of_each_client_open(play: Play) -> None:
    sender = Answering(seconds=0.02)
    recording = play(apply(Load(KINDS, 0.15, 0.04, clients=3), sender))  # type: ignore[arg-type]
    assert sender.most_open == 3
    assert len(recording.answers) == 3 * 10
    assert all(answer.intended_at < recording.window[1] for answer in recording.answers)


def test_a_refused_client_pauses(play: Play) -> None:
    load = Load(KINDS, 9.5 * PAUSE_AFTER_FAILURE_S, 0.0, clients=2)
    recording = play(apply(load, Answering("429 queue-full")))  # type: ignore[arg-type]
    assert len(recording.answers) == 2 * 10


def test_an_open_loop_sends_what_is_due_though_nothing_was_answered_yet() -> None:
    load = Load(KINDS, 0.1, 0.0, rate=200, arrivals="even")
    sender = Answering(hold=20)  # the first is answered after the last was sent
    recording = asyncio.run(apply(load, sender))  # type: ignore[arg-type]
    assert (sender.most_open, len(recording.answers)) == (20, 20)


def test_requests_are_due_as_the_schedule_says_and_never_sent_before() -> None:
    load = Load(KINDS, 0.1, 0.0, rate=100, arrivals="even")
    recording = asyncio.run(apply(load, Answering()))  # type: ignore[arg-type]
    began = recording.window[0]
    due = sorted(answer.intended_at - began for answer in recording.answers)
    assert due == pytest.approx([number / 100 for number in range(10)])
    assert all(answer.lateness_s >= 0 for answer in recording.answers)


def test_probes_are_read_at_both_ends_of_the_window(play: Play) -> None:
    probe, load = Recorder(), Load(KINDS, 3.0, 2.0, clients=1)
    recording = play(apply(load, Answering(seconds=0.4), [probe]))  # type: ignore[arg-type]
    assert probe.calls == pytest.approx([2.0, 5.0])
    assert recording.window == pytest.approx((2.0, 5.0))


def test_a_load_that_is_cancelled_ends_with_its_pacer() -> None:
    async def run() -> None:
        load = Load(KINDS, 1000, 0.0, rate=0.002, arrivals="even")
        sender = Answering()
        sending = asyncio.create_task(apply(load, sender))  # type: ignore[arg-type]
        await sender.first.wait()  # so that the timing thread runs and waits for the second
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    asyncio.run(run())
    assert PACER not in {thread.name for thread in threading.enumerate()}
