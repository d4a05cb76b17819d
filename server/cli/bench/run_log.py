"""Run log written by a simulated device."""

import csv
from dataclasses import dataclass
from pathlib import Path

from server.errors import InvalidRequest


@dataclass(frozen=True)
class DeviceUse:
    """Work of a device within a window, and the source of the figures."""

    source: str
    mean_batch: float | None
    busy_share: float | None
    """Busy share of one device: the mean over devices, or their sum if they share a run log."""
    runs: int | None
    images: int | None


def read_run_log(path: Path, start: float, end: float) -> DeviceUse:
    """Sum the runs in a SimulatedBackend log that ended within a window, in seconds of time.perf_counter.

    Of a run that crosses an edge of the window, the part inside counts as busy. Raises InvalidRequest if the file is
    not such a log.
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
        raise InvalidRequest(f"{path} is not a log of simulated runs: {error!r}") from error
