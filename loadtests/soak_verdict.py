"""Limits on growth over the minutes of a soak test."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from soak_load import EXPECTED, Minute

MOST_MEMORY_GROWTH_PERCENT = 3.0
MOST_P99_RATIO = 1.25
"""Maximum ratio of the median p99 over the last third of the minutes to that over the first."""
MOST_LEFT_OVER = 2
"""Maximum increase of descriptors from start to end, and of threads from the first to the last minute."""


class Said(NamedTuple):
    """Checked metric."""

    name: str
    measured: float
    allowed: float

    @property
    def holds(self) -> bool:
        return self.measured <= self.allowed


def verdict(minutes: Sequence[Minute]) -> list[Said]:
    """Check all minutes after the warm-up; the last entry is a moment without connections."""
    before, *judged, after = minutes
    first, last = judged[0].figures, judged[-1].figures
    growth = 100 * (last["resident_mb"] / first["resident_mb"] - 1)
    p99 = [minute.figures["p99_ms"] for minute in judged]
    third = max(1, len(p99) // 3)
    others = sum(times for minute in minutes for name, times in minute.outcomes.items() if name not in EXPECTED)
    return [
        Said("memory: growth in percent", growth, MOST_MEMORY_GROWTH_PERCENT),
        Said("p99: last third over first", float(np.median(p99[-third:]) / np.median(p99[:third])), MOST_P99_RATIO),
        Said(
            "descriptors: at the end beyond the start",
            after.looks[-1].descriptors - before.looks[0].descriptors,
            MOST_LEFT_OVER,
        ),
        Said("threads: last minute beyond the first", last["threads"] - first["threads"], MOST_LEFT_OVER),
        Said("answers that should not have been", others, 0),
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
