"""Report of a summary, as a table and as JSON."""

import dataclasses
from typing import Any

from server.cli.bench.run_log import DeviceUse
from server.cli.bench.summary import Spread, Summary

_COLUMNS = ("count", "p50", "p95", "p99", "p99.9", "max", "mean")


def as_json(summary: Summary) -> dict[str, Any]:
    """Convert a summary to a dictionary; each name contains its unit."""
    return dataclasses.asdict(summary)


def as_table(summary: Summary) -> str:
    """Format a summary as text; the percentiles are a Markdown table."""
    rows = [("latency, restored", summary.latency_ms)]
    if len(summary.kinds) > 1:
        rows += [(f"- {kind.name}", kind.latency_ms) for kind in summary.kinds]
    rows += [("latency, refused", summary.refusal_ms)]
    rows += [(f"server: {name}", spread) for name, spread in summary.stages_ms.items()]
    rows += [("sender's lateness", summary.lateness_ms)]
    table = [_line("milliseconds", *_COLUMNS), _line("---", *("---:" for _ in _COLUMNS))]
    table += [_row(name, spread) for name, spread in rows if spread is not None]
    return "\n".join([*table, "", *_sentences(summary)])


def _line(name: str, *cells: str) -> str:
    return f"| {name:<24} | " + " | ".join(f"{cell:>8}" for cell in cells) + " |"


def _row(name: str, spread: Spread) -> str:
    values = (spread.p50, spread.p95, spread.p99, spread.p999, spread.maximum, spread.mean)
    return _line(name, str(spread.count), *(f"{value:.2f}" for value in values))


def _sentences(summary: Summary) -> list[str]:
    goodput = (
        ""
        if summary.goodput_per_s is None
        else f" · goodput {summary.goodput_per_s:.1f}/s within {summary.deadline_ms:g} ms"
    )
    lines = [
        f"throughput {summary.throughput_per_s:.1f}/s{goodput} · offered {summary.offered_per_s:.1f}/s "
        f"over {summary.seconds:.1f} s",
        f"{summary.requests} requests: {_counts(summary.outcomes)}",
    ]
    lines += [f"- {kind.name}: {_counts(kind.outcomes)}" for kind in summary.kinds if len(summary.kinds) > 1]
    if summary.retry_after_s is not None:
        lines.append(f"Retry-After {summary.retry_after_s[0]:g} to {summary.retry_after_s[1]:g} s")
    if summary.device is not None:
        lines.append(_device(summary.device))
    if summary.server is not None:
        lines.append(
            f"server: {_number(summary.server.cpu_ms_per_request)} ms of CPU per request, "
            f"{_number(summary.server.resident_mb)} MB resident"
        )
    lines.append(
        f"this client: {_number(summary.client_cpu_ms_per_request)} ms of CPU per request, "
        f"{summary.client_cpu_share:.0%} of a core"
    )
    return lines + [f"warning: {warning}" for warning in summary.warnings]


def _device(use: DeviceUse) -> str:
    parts = [f"mean batch {_number(use.mean_batch)}"]
    if use.busy_share is not None:
        parts.append(f"busy {use.busy_share:.1%}")
    if use.runs is not None:
        parts.append(f"{use.runs} runs of {use.images} images")
    return f"device ({use.source}): {', '.join(parts)}"


def _counts(outcomes: dict[str, int]) -> str:
    return ", ".join(f"{outcome} x {count}" for outcome, count in outcomes.items()) or "none"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
