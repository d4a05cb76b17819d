"""Pass criteria of a load test, adjustable on the command line."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from locust.stats import RequestStats, StatsEntry

RESTORE = "restore"
REFUSED = "refused"
LEFT = "left"
"""Request names: answered, correctly refused under load, abandoned by the client."""


@dataclass(frozen=True)
class Thresholds:
    """Maximum values; None disables a check."""

    max_error_share: float = 0.001
    """Share of all requests with a wrong response, a 5xx that is no refusal, or no response."""
    max_refused_share: float = 0.0
    """Share of all requests refused with 429 or 503 and a problem document."""
    max_p95_ms: float = 1000.0
    """95th percentile of all answered requests; refusals do not count."""
    max_last_p95_ms: float | None = None
    """The same over the last ten seconds, to check recovery; refusals count here."""

    def given(self, options: Namespace) -> "Thresholds":
        """Return the thresholds with overrides from the command line."""
        named = {field.name: getattr(options, field.name) for field in fields(self)}
        return replace(self, **{name: value for name, value in named.items() if value is not None})


@dataclass(frozen=True)
class Line:
    """Threshold and measured value."""

    name: str
    allowed: float
    measured: float

    @property
    def holds(self) -> bool:
        return self.measured <= self.allowed


def add_options(parser: ArgumentParser) -> None:
    """Add one option per threshold."""
    for field in fields(Thresholds):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=float, metavar="X", help="default: set by the scenario")


def judge(stats: RequestStats, thresholds: Thresholds) -> Iterator[Line]:
    """Compare the measurements with each threshold; without any response, all of them fail."""
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
