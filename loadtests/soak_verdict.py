"""Verdict of the soak test: limits on the growth of its figures."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from soak_load import EXPECTED, Minute

MAX_MEMORY_GROWTH_PERCENT = 3.0
MAX_P99_RATIO = 1.25
"""Ratio of the median over the last third of the minutes to the median over the first third."""
MAX_LEFT_OPEN = 2
"""Allowed increase of descriptors and threads from the first minute to the last."""


class Check(NamedTuple):
    """One figure with its limit."""

    name: str
    measured: float
    limit: float

    @property
    def holds(self) -> bool:
        return self.measured <= self.limit


def verdict(minutes: Sequence[Minute]) -> list[Check]:
    """Check the minutes between the first (the warm-up) and the last (without clients)."""
    before, *judged, after = minutes
    first, last = judged[0].figures, judged[-1].figures
    growth = 100 * (last["resident_mb"] / first["resident_mb"] - 1)
    p99 = [minute.figures["p99_ms"] for minute in judged]
    third = max(1, len(p99) // 3)
    others = sum(times for minute in minutes for name, times in minute.outcomes.items() if name not in EXPECTED)
    return [
        Check("memory: growth (%)", growth, MAX_MEMORY_GROWTH_PERCENT),
        Check("p99: last third / first third", float(np.median(p99[-third:]) / np.median(p99[:third])), MAX_P99_RATIO),
        Check(
            "descriptors: growth",
            after.samples[-1].descriptors - before.samples[0].descriptors,
            MAX_LEFT_OPEN,
        ),
        Check("threads: growth", last["threads"] - first["threads"], MAX_LEFT_OPEN),
        Check("unexpected outcomes", others, 0),
    ]


def line(minute: Minute) -> str:
    """Format a row of the table."""
    figures = minute.figures
    others = ", ".join(f"{times} {name}" for name, times in sorted(figures["others"].items()))
    return (
        f"| {figures['minute'] or 'warm-up'} | {figures['sent']} | {figures['restored']} | {figures['p50_ms']:.0f} "
        f"| {figures['p99_ms']:.0f} | {figures['resident_mb']:.1f} | {figures['descriptors']} | {figures['threads']} "
        f"| {others} |"
    )
