"""Thresholds: what must hold for a load test to pass, each changeable on the command line."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from locust.stats import RequestStats, StatsEntry

RESTORE = "restore"
REFUSED = "refused"
LEFT = "left"
"""Names of requests: answered, refused by load as they should be, given up by their own client."""


@dataclass(frozen=True)
class Thresholds:
    """The most that may be measured; None is not looked at."""

    max_error_share: float = 0.001
    """Of all requests: answered wrongly, with a 5xx that is no refusal, or not at all."""
    max_refused_share: float = 0.0
    """Of all requests: 429 or 503 with a problem document."""
    max_p95_ms: float = 1000.0
    """Of all that were answered; a refusal is no answer."""
    max_last_p95_ms: float | None = None
    """The same at the end, over the last ten seconds: whether the server has recovered. Refusals count here."""

    def given(self, options: Namespace) -> "Thresholds":
        """These, but for what the command line says."""
        named = {field.name: getattr(options, field.name) for field in fields(self)}
        return replace(self, **{name: value for name, value in named.items() if value is not None})


@dataclass(frozen=True)
class Line:
    """One threshold and what was measured."""

    name: str
    allowed: float
    measured: float

    @property
    def holds(self) -> bool:
        return self.measured <= self.allowed


def add_options(parser: ArgumentParser) -> None:
    """Add one option for each threshold."""
    for field in fields(Thresholds):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=float, metavar="X", help="the scenario's own unless given")


def judge(stats: RequestStats, thresholds: Thresholds) -> Iterator[Line]:
    """Hold what was measured against each threshold; nothing restored or answered is beyond all of them."""
    total = stats.total
    refused = sum(entry.num_requests for entry in stats.entries.values() if entry.name == REFUSED)
    requests = max(total.num_requests, 1)
    answered = _answered(stats)
    yield Line("requests that ended, at least", -1.0, -float(answered.num_requests))
    yield Line("share of errors", thresholds.max_error_share, total.num_failures / requests)
    yield Line("share of refusals", thresholds.max_refused_share, refused / requests)
    yield Line("p95 of answers, ms", thresholds.max_p95_ms, float(answered.get_response_time_percentile(0.95) or 0))
    last_ms = total.get_current_response_time_percentile(0.95)
    if thresholds.max_last_p95_ms is not None and last_ms is not None:
        yield Line("p95 of the last seconds, ms", thresholds.max_last_p95_ms, float(last_ms))


def _answered(stats: RequestStats) -> StatsEntry:
    together = StatsEntry(None, "answered", "")
    for entry in stats.entries.values():
        if entry.name not in (REFUSED, LEFT):
            together.extend(entry)
    return together
