"""Statistics of a recording."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from server.cli.bench.load import Load, Recording
from server.cli.bench.probes import ServerUse
from server.cli.bench.run_log import DeviceUse
from server.cli.bench.sender import Answer

# Above these limits the load generator itself distorts the figures.
BUSY_CLIENT_SHARE = 0.8
LATE_SHARE_OF_LATENCY = 0.1

_STAGE = re.compile(r"([\w-]+);dur=([\d.]+)")
_BATCH = re.compile(r'batch;desc="(\d+)"')


@dataclass(frozen=True)
class Spread:
    """Distribution in milliseconds; percentiles are observed values (nearest rank)."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    p999: float
    maximum: float


def spread_of(milliseconds: Sequence[float]) -> Spread | None:
    """Compute the distribution of some values; None for an empty sequence."""
    if not milliseconds:
        return None
    p50, p95, p99, p999 = np.quantile(milliseconds, (0.5, 0.95, 0.99, 0.999), method="inverted_cdf").tolist()
    return Spread(len(milliseconds), fmean(milliseconds), p50, p95, p99, p999, max(milliseconds))


@dataclass(frozen=True)
class KindSummary:
    """Figures of one kind of image."""

    name: str
    requests: int
    outcomes: dict[str, int]
    latency_ms: Spread | None


@dataclass(frozen=True)
class ServerSummary:
    """CPU time and memory of the server's process."""

    cpu_ms_per_request: float | None
    resident_mb: float | None


@dataclass(frozen=True)
class Summary:
    """Statistics of one load.

    Latencies, outcomes and lateness cover the requests due within the window; throughput, goodput and CPU time per
    request cover the responses that ended within it. Latency is measured from a request's due time.
    """

    seconds: float
    requests: int
    outcomes: dict[str, int]
    offered_per_s: float
    throughput_per_s: float
    goodput_per_s: float | None
    deadline_ms: float | None
    latency_ms: Spread | None
    refusal_ms: Spread | None
    retry_after_s: tuple[float, float] | None
    kinds: list[KindSummary]
    stages_ms: dict[str, Spread]
    device: DeviceUse | None
    server: ServerSummary | None
    lateness_ms: Spread | None
    client_cpu_ms_per_request: float | None
    client_cpu_share: float
    warnings: list[str] = field(default_factory=list)


def summarise(
    load: Load,
    recording: Recording,
    *,
    deadline_ms: float | None = None,
    device: DeviceUse | None = None,
    server: ServerUse | None = None,
) -> Summary:
    """Compute the statistics; goodput needs `deadline_ms`, counted from a request's due time."""
    start, end = recording.window
    seconds = end - start
    due = [answer for answer in recording.answers if start <= answer.intended_at < end]
    ended = [answer for answer in recording.answers if start <= answer.ended_at < end]
    restored = [answer for answer in ended if answer.ok]
    refused = [answer for answer in due if answer.answered and not answer.ok]
    waits = [answer.retry_after_s for answer in due if answer.retry_after_s is not None]
    summary = Summary(
        seconds=seconds,
        requests=len(due),
        outcomes=_outcomes(due),
        offered_per_s=len(due) / seconds,
        throughput_per_s=len(restored) / seconds,
        goodput_per_s=None if deadline_ms is None else _within(restored, deadline_ms) / seconds,
        deadline_ms=deadline_ms,
        latency_ms=_latency(answer for answer in due if answer.ok),
        refusal_ms=_latency(refused),
        retry_after_s=(min(waits), max(waits)) if waits else None,
        kinds=[_kind(name, number, due) for number, name in enumerate(kind.name for kind in load.kinds)],
        stages_ms=_stages(due),
        device=device or _device_by_headers(due),
        server=None if server is None else _server(server, recording.answers),
        lateness_ms=None if load.rate is None else spread_of([answer.lateness_s * 1e3 for answer in due]),
        client_cpu_ms_per_request=recording.client_cpu_s * 1e3 / len(ended) if ended else None,
        client_cpu_share=recording.client_cpu_s / seconds,
    )
    summary.warnings.extend(_warnings(summary))
    return summary


def _latency(answers: Iterable[Answer]) -> Spread | None:
    return spread_of([answer.latency_s * 1e3 for answer in answers])


def _within(restored: Sequence[Answer], deadline_ms: float) -> int:
    return sum(1 for answer in restored if answer.latency_s * 1e3 <= deadline_ms)


def _outcomes(answers: Iterable[Answer]) -> dict[str, int]:
    return dict(Counter(answer.outcome for answer in answers).most_common())


def _kind(name: str, number: int, due: Sequence[Answer]) -> KindSummary:
    of_kind = [answer for answer in due if answer.kind == number]
    return KindSummary(name, len(of_kind), _outcomes(of_kind), _latency(answer for answer in of_kind if answer.ok))


def _stages(due: Sequence[Answer]) -> dict[str, Spread]:
    values: dict[str, list[float]] = {}
    for answer in due:
        if answer.ok and answer.server_timing is not None:
            for name, milliseconds in _STAGE.findall(answer.server_timing):
                values.setdefault(name, []).append(float(milliseconds))
    return {name: spread for name, stage in values.items() if (spread := spread_of(stage)) is not None}


def _device_by_headers(due: Sequence[Answer]) -> DeviceUse | None:
    sizes = [
        int(match[1])
        for answer in due
        if answer.ok and answer.server_timing is not None and (match := _BATCH.search(answer.server_timing))
    ]
    if not sizes:
        return None
    # A batch of n is reported by n responses, so the mean over batches is the harmonic mean over responses.
    return DeviceUse("Server-Timing", len(sizes) / sum(1 / size for size in sizes if size), None, None, None)


def _server(use: ServerUse, answers: Sequence[Answer]) -> ServerSummary:
    start, end = use.span
    served = sum(1 for answer in answers if answer.answered and start <= answer.ended_at < end)
    resident_mb = None if use.resident_bytes is None else use.resident_bytes / 1e6
    return ServerSummary(use.cpu_s * 1e3 / served if served else None, resident_mb)


def _warnings(summary: Summary) -> list[str]:
    warnings = []
    if summary.client_cpu_share > BUSY_CLIENT_SHARE:
        warnings.append(
            f"this load generator used {summary.client_cpu_share:.0%} of a core: the server may be faster than measured"
        )
    late, latency = summary.lateness_ms, summary.latency_ms
    if late is not None and latency is not None and late.p99 > LATE_SHARE_OF_LATENCY * latency.p99:
        warnings.append(f"requests were sent up to {late.p99:.1f} ms late (p99), which is part of their latency")
    return warnings
