"""The run log: what a simulated device wrote about its own runs."""

import csv
from dataclasses import dataclass
from pathlib import Path

from server.errors import InvalidRequest


@dataclass(frozen=True)
class DeviceUse:
    """What a device did within a window, and who says so."""

    source: str
    mean_batch: float | None
    busy_share: float | None
    """Of one device: the mean of several where they are told apart, their sum in a run log that they share."""
    runs: int | None
    images: int | None


def read_run_log(path: Path, start: float, end: float) -> DeviceUse:
    """Sum up the runs of a log of SimulatedBackend that ended within a window; seconds of time.perf_counter.

    A run that was going on at the edge counts as busy for the part inside. Raises InvalidRequest for a file that is
    no such log.
    """
    runs = images = 0
    busy_s = 0.0
    for began, ended, count in _rows(path):
        busy_s += max(0.0, min(ended, end) - max(began, start))
        if start <= ended < end:
            runs += 1
            images += count
    return DeviceUse("run log", images / runs if runs else None, busy_s / (end - start), runs, images)


def _rows(path: Path) -> list[tuple[float, float, int]]:
    try:
        with path.open(newline="", encoding="ascii") as file:
            return [(float(row["start"]), float(row["end"]), int(row["images"])) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(f"{path} is no log of simulated runs: {error!r}") from error
