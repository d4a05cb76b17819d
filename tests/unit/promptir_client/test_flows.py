"""Tests of the calls, step by step, without a server and with a fake clock."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from promptir_client.errors import InvalidImage, TimedOut, TooManyRequests, Unreachable
from promptir_client.flows import Call
from promptir_client.jobs import Job
from promptir_client.retries import Retries
from promptir_client.steps import Flow, Listen, Lost, NextLine, Outcome, Pause, Reply, Send, Step

BUSY = Reply(429, {"retry-after": "3"}, b'{"type": "urn:promptir:problem:queue-full"}')
DONE = Reply(200, {"content-type": "image/png", "server-timing": 'decode;dur=1.5, batch;desc="4", total;dur=9'}, b"PNG")
REFUSED = Lost("refused", sent=False)


class Clock:
    """Clock that advances by the requested pauses."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def call(clock: Clock, timeout_s: float | None = 60.0) -> Call:
    return Call(Retries(attempts=4, first_s=1, random=lambda: 0.0), clock, timeout_s)


def run(flow: Flow[Any], clock: Clock, *outcomes: Outcome) -> tuple[Any, list[Step]]:
    """Run a flow with the given outcomes, without real pauses."""
    waiting, steps = list(outcomes), []
    try:
        step = next(flow)
        while True:
            steps.append(step)
            if isinstance(step, Pause):
                clock.now += step.seconds
                step = flow.send(None)
            else:
                step = flow.send(waiting.pop(0))
    except StopIteration as end:
        assert not waiting
        return end.value, steps


def document(state: str, done: int = 0, **more: Any) -> dict[str, Any]:
    tiles = {"done": done, "total": 4}
    return {"id": "j", "state": state, "tiles": tiles, "time_left_s": None, "problem": None, "result": None} | more


def event(state: str, done: int = 0, **more: Any) -> list[str]:
    return [f"id: {state}-{done}", "event: progress", f"data: {json.dumps(document(state, done, **more))}", ""]


def test_a_refusal_is_waited_out_and_the_answer_is_typed() -> None:
    clock = Clock()
    restored, steps = run(call(clock).restore(b"image", {"quality": 7, "report": False}), clock, BUSY, REFUSED, DONE)
    assert [type(step) for step in steps] == [Send, Pause, Send, Pause, Send]
    assert clock.now == 100 + 3 + 2
    assert (restored.data, restored.media_type, restored.mode) == (b"PNG", "image/png", "whole")
    assert (restored.timings.decode_ms, restored.timings.batch_size, restored.timings.queue_ms) == (1.5, 4, None)
    first = steps[0]
    assert isinstance(first, Send)
    assert first.request.parameters == {"quality": "7", "report": "false"}


def test_a_pause_that_outlasts_the_call_is_not_begun() -> None:
    clock = Clock()
    with pytest.raises(TooManyRequests) as refused:
        run(call(clock, timeout_s=2).restore(b"image", {}), clock, BUSY)
    assert (refused.value.retry_after_s, refused.value.slug, clock.now) == (3.0, "queue-full", 100)


def test_the_time_of_all_attempts_is_one() -> None:
    clock = Clock()
    flow = call(clock, timeout_s=10).restore(b"image", {})
    first = next(flow)
    assert isinstance(first, Send)
    assert first.timeout_s == 10
    clock.now += 4
    assert flow.send(BUSY) == Pause(3)
    clock.now += 3
    again = flow.send(None)
    assert isinstance(again, Send)
    assert again.timeout_s == 3
    with pytest.raises(TimedOut):
        flow.send(Lost("slow", sent=True, late=True))


def test_attempts_are_counted_and_what_is_wrong_is_said_at_once() -> None:
    clock = Clock()
    with pytest.raises(Unreachable):
        run(call(clock).restore(b"image", {}), clock, *[REFUSED] * 4)
    broken = Reply(422, {}, b'{"type": "urn:promptir:problem:undecodable-image", "detail": "It ends early."}')
    with pytest.raises(InvalidImage, match="It ends early"):
        run(call(clock).restore(b"image", {}), clock, broken)


def test_a_job_is_not_submitted_twice() -> None:
    clock = Clock()
    with pytest.raises(Unreachable):
        run(call(clock).submit(b"image", {}), clock, Lost("reset", sent=True))
    accepted = Reply(202, {}, json.dumps(document("queued")).encode())
    job, _ = run(call(clock).submit(b"image", {}), clock, REFUSED, BUSY, accepted)
    assert (job.id, job.is_final) == ("j", False)


def test_the_events_of_a_job_are_followed_through_a_broken_stream() -> None:
    clock, seen = Clock(), []
    stream = Reply(200, {"content-type": "text/event-stream"}, b"")
    tell: Callable[[Job], None] = lambda job: seen.append((job.state, job.tiles_done))  # noqa: E731
    lines = [": still here", "", *event("queued"), *event("running", 1)]
    restored, steps = run(
        call(clock, timeout_s=None).wait("j", tell),
        clock,
        *(stream, *lines, None),
        *(REFUSED, stream, *event("running", 3), *event("done", 4, result={"report": None})),
        DONE,
    )
    assert seen == [("queued", 0), ("running", 1), ("running", 3), ("done", 4)]
    assert restored.data == b"PNG"
    listened = [step.request.headers.get("Last-Event-ID") for step in steps if isinstance(step, Listen)]
    assert listened == [None, "running-1", "running-1"]
    assert sum(isinstance(step, NextLine) for step in steps) == len(lines) + 1 + 8


def test_a_job_whose_end_was_seen_is_looked_at() -> None:
    clock = Clock()
    ended = Reply(200, {}, json.dumps(document("done", 4)).encode())
    restored, _ = run(call(clock).wait("j", None), clock, Reply(204, {}, b""), ended, DONE)
    assert restored.data == b"PNG"
