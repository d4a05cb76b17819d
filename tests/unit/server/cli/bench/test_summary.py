"""Tests of the statistics of a recording."""

import json

import pytest

from server.cli.bench.load import Load, Recording
from server.cli.bench.probes import ServerUse
from server.cli.bench.report import as_json, as_table
from server.cli.bench.run_log import DeviceUse
from server.cli.bench.sender import Answer
from server.cli.bench.summary import Summary, spread_of, summarise
from server.cli.bench.uploads import Body, Kind

KINDS = [Kind("8x8 png", (Body(b"", "image/png"),)), Kind("16x16 png", (Body(b"", "image/png"),))]
CLOSED = Load(KINDS, seconds=10, warm_up_s=0, clients=1)
OPEN = Load(KINDS, seconds=10, warm_up_s=0, rate=1)


def _answer(
    due: float, ms: float, outcome: str = "200", *, kind: int = 0, late_ms: float = 0, **more: object
) -> Answer:
    answered = outcome[:1].isdigit()
    return Answer(kind, due, due + late_ms / 1e3, due + ms / 1e3, outcome, answered, **more)  # type: ignore[arg-type]


def _summary(*answers: Answer, load: Load = CLOSED, deadline_ms: float | None = None, cpu_s: float = 0) -> Summary:
    return summarise(load, Recording((100, 110), list(answers), cpu_s), deadline_ms=deadline_ms)


def test_percentiles_are_values_that_occurred() -> None:
    spread = spread_of([float(value) for value in range(1000, 0, -1)])
    assert spread is not None
    assert (spread.p50, spread.p95, spread.p99, spread.p999, spread.maximum) == (500, 950, 990, 999, 1000)
    assert spread.mean == 500.5
    one = spread_of([3.0])
    assert one is not None
    assert (one.p50, one.p999) == (3, 3)
    assert spread_of([]) is None


def test_latency_runs_from_when_a_request_was_due() -> None:
    summary = _summary(_answer(101, 50, late_ms=20), load=OPEN)
    assert summary.latency_ms is not None
    assert summary.latency_ms.p50 == pytest.approx(50)
    assert summary.lateness_ms is not None
    assert summary.lateness_ms.p50 == pytest.approx(20)
    assert _summary(_answer(101, 50)).lateness_ms is None  # a closed loop has no due times


def test_the_warm_up_and_what_is_due_after_the_window_do_not_count() -> None:
    summary = _summary(_answer(99, 10), _answer(100, 20), _answer(109.9, 30), _answer(110, 40))
    assert summary.requests == 2
    assert summary.latency_ms is not None
    assert summary.latency_ms.maximum == pytest.approx(30)


def test_throughput_counts_what_ended_in_the_window() -> None:
    before, after = _answer(99.5, 1000), _answer(109.5, 1000)
    summary = _summary(before, *[_answer(101 + second, 10) for second in range(4)], after)
    assert summary.throughput_per_s == pytest.approx(0.5)
    assert summary.offered_per_s == pytest.approx(0.5)


def test_goodput_leaves_out_what_was_late_and_what_was_refused() -> None:
    answers = _answer(101, 10), _answer(102, 99), _answer(103, 101), _answer(104, 1, "429 queue-full")
    summary = _summary(*answers, deadline_ms=100)
    assert summary.goodput_per_s == pytest.approx(0.2)
    assert summary.throughput_per_s == pytest.approx(0.3)
    assert _summary(*answers).goodput_per_s is None


def test_outcomes_are_counted_by_kind_and_refusals_have_their_own_latency() -> None:
    summary = _summary(
        _answer(101, 10),
        _answer(102, 2, "429 queue-full", kind=1, retry_after_s=3.0),
        _answer(103, 4, "429 queue-full", kind=1, retry_after_s=1.0),
        _answer(104, 5000, "timeout"),
    )
    assert summary.outcomes == {"429 queue-full": 2, "200": 1, "timeout": 1}
    assert summary.refusal_ms is not None
    assert (summary.refusal_ms.count, summary.refusal_ms.maximum) == (2, pytest.approx(4))
    assert summary.retry_after_s == (1, 3)
    small, large = summary.kinds
    assert (small.name, small.requests, small.outcomes) == ("8x8 png", 2, {"200": 1, "timeout": 1})
    assert (large.requests, large.latency_ms) == (2, None)


def test_stages_and_the_mean_batch_come_from_the_headers_of_the_server() -> None:
    # A run of 3 and a run of 1 have the mean 2, although three of four responses report 3.
    timings = [f'queue;dur={ms}, inference;dur=8.00, batch;desc="{size}", total;dur=9' for ms, size in ((1, 3), (5, 1))]
    summary = _summary(
        *[_answer(101, 10, server_timing=timings[0]) for _ in range(3)], _answer(102, 10, server_timing=timings[1])
    )
    assert (summary.stages_ms["queue"].p50, summary.stages_ms["queue"].maximum) == (1, 5)
    assert set(summary.stages_ms) == {"queue", "inference", "total"}
    assert summary.device == DeviceUse("Server-Timing", 2, None, None, None)


def test_processor_time_is_shared_among_the_answers_of_its_span() -> None:
    recording = Recording((100, 110), [_answer(100 + second, 10) for second in range(10)], client_cpu_s=0.5)
    summary = summarise(CLOSED, recording, server=ServerUse((102, 106), 0.2, 80e6))
    assert summary.server is not None
    assert summary.server.cpu_ms_per_request == pytest.approx(50)
    assert summary.server.resident_mb == 80
    assert summary.client_cpu_ms_per_request == pytest.approx(50)
    assert summary.client_cpu_share == pytest.approx(0.05)


def test_a_busy_load_generator_is_a_warning() -> None:
    assert _summary(_answer(101, 10), cpu_s=1).warnings == []
    assert "90% of a core" in _summary(_answer(101, 10), cpu_s=9).warnings[0]
    assert "late" in _summary(_answer(101, 10, late_ms=5), load=OPEN).warnings[0]


def test_nothing_answered_gives_no_figures_and_still_a_report() -> None:
    summary = _summary(_answer(101, 1, "cannot connect"), load=OPEN)
    assert (summary.latency_ms, summary.device, summary.throughput_per_s) == (None, None, 0)
    assert "cannot connect x 1" in as_table(summary)


def test_the_table_and_the_json_tell_the_same_figures() -> None:
    answers = [_answer(101, 12.5, kind=0), _answer(102, 20.25, kind=1), _answer(103, 1, "429 queue-full")]
    summary = _summary(*answers, deadline_ms=100)
    table, figures = as_table(summary), json.loads(json.dumps(as_json(summary)))
    rows = {cells[1].strip(): cells for line in table.splitlines() if len(cells := line.split("|")) > 3}
    assert float(rows["latency, restored"][3]) == 12.5 == pytest.approx(figures["latency_ms"]["p50"])
    assert float(rows["- 16x16 png"][7]) == 20.25 == pytest.approx(figures["kinds"][1]["latency_ms"]["maximum"])
    assert "goodput 0.2/s within 100 ms" in table
    assert figures["outcomes"] == {"200": 2, "429 queue-full": 1}
