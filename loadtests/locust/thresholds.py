"""Thresholds: the limits that a load test must keep to pass, each an option of the command line."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from html import escape

from locust.stats import RequestStats, StatsEntry

RESTORE = "restore"
REFUSED = "refused"
LEFT = "left"
"""Names of requests: answered, refused under load as intended, abandoned by the client."""


@dataclass(frozen=True)
class Thresholds:
    """Upper limits of what is measured; None is not checked."""

    max_error_share: float = 0.001
    """Share of requests with a wrong response, a 5xx other than a refusal, or none at all."""
    max_refused_share: float = 0.0
    """Share of requests refused with 429 or 503 and a problem document."""
    max_p95_ms: float = 1000.0
    """Of all answered requests; a refusal is not an answer."""
    max_last_p95_ms: float | None = None
    """Of the last ten seconds, refusals included: whether the server has recovered."""

    def given(self, options: Namespace) -> "Thresholds":
        """Return these with the values of the command line in their place."""
        named = {field.name: getattr(options, field.name) for field in fields(self)}
        return replace(self, **{name: value for name, value in named.items() if value is not None})


@dataclass(frozen=True)
class Line:
    """One threshold and the measured value."""

    name: str
    allowed: float
    measured: float

    @property
    def holds(self) -> bool:
        return self.measured <= self.allowed


def add_options(parser: ArgumentParser) -> None:
    """Add an option for each threshold."""
    for field in fields(Thresholds):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=float, metavar="X", help="default: the scenario's")


def judge(stats: RequestStats, thresholds: Thresholds) -> Iterator[Line]:
    """Yield each threshold with its measured value; a run without any answer fails the first."""
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


def as_text(lines: Iterable[Line]) -> str:
    """Format the verdict as a table for a terminal."""
    rows = [f"\n{'threshold':<32}{'allowed':>12}{'measured':>12}"]
    for line in lines:
        missed = "" if line.holds else "  MISSED"
        rows.append(f"{line.name:<32}{abs(line.allowed):>12.4g}{abs(line.measured):>12.4g}{missed}")
    return "\n".join(rows)


def as_html(lines: list[Line]) -> str:
    """Format the verdict as a table for the HTML report, which has its own colours, light or dark."""
    passed = all(line.holds for line in lines)
    rows = "".join(
        f"<tr><td>{escape(line.name)}</td><td>{abs(line.allowed):.4g}</td><td>{abs(line.measured):.4g}</td>"
        f"<td>{'kept' if line.holds else '<strong>MISSED</strong>'}</td></tr>"
        for line in lines
    )
    heading = "".join(f'<th scope="col">{name}</th>' for name in ("Threshold", "Allowed", "Measured", ""))
    return (
        '<section id="thresholds" style="max-width:60rem;margin:1.5rem auto;padding:1rem 1.5rem;background:#fff;'
        f'color:#222;font:1rem/1.5 sans-serif"><h2>Thresholds: {"passed" if passed else "failed"}</h2>'
        '<table style="width:100%;text-align:left;border-spacing:0 0.3rem">'
        f"<thead><tr>{heading}</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _answered(stats: RequestStats) -> StatsEntry:
    together = StatsEntry(None, "answered", "")
    for entry in stats.entries.values():
        if entry.name not in (REFUSED, LEFT):
            together.extend(entry)
    return together
