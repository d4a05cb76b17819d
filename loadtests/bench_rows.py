"""Rows of the scheduler benchmark: loads, figures and targets."""

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from peers import MAX_BATCH, SimulatedDevice

from server.cli.bench.load import Load, Recording
from server.cli.bench.summary import Summary
from server.cli.bench.uploads import Kind, kinds_of_sizes

TINY = SimulatedDevice(6, 488)
"""A 64x64 image costs 2 ms, so that only the scheduler matters."""
MIXED = SimulatedDevice(6, 122)
"""A 128x128 image takes 2 ms."""
PHOTO = SimulatedDevice(6, 7.63)
"""A 512x512 image costs 2 ms, so that the codecs matter."""

SEED = 4
CROWD = 32
LARGE_PER_S = 1.0


@dataclass(frozen=True)
class Trial:
    """One row measured on one server: the recording, and the CPU time and memory of the server's process."""

    summary: Summary
    recording: Recording
    server_cpu_ms: float
    """CPU time of the server per response."""
    resident_mb: float
    others_share: float
    """Share of all cores used by other processes meanwhile."""


@dataclass(frozen=True)
class Figure:
    """One figure of a row; its target bounds our value, or the ratio of ours to the reference's."""

    name: str
    unit: str
    of: Callable[["Row", Trial], float | None]
    at_most: float | None = None
    at_least: float | None = None
    ratio_at_least: float | None = None
    ratio_at_most: float | None = None


@dataclass(frozen=True)
class Row:
    """One load on one simulated device; without `peers_too`, measured on our server only.

    `sizes` has the syntax of `promptir bench --sizes`.
    """

    name: str
    title: str
    device: SimulatedDevice
    sizes: str
    figures: Sequence[Figure]
    clients: int | None = None
    share_of_ideal: float | None = None
    seconds: float = 6.0
    peers_too: bool = True
    extra_sizes: str = ""
    """Images sent in addition, with weights in requests per second; not part of the ideal."""

    @property
    def kinds(self) -> Sequence[Kind]:
        """Kinds of images that define the ideal; generated on first use."""
        return _made(self.sizes)

    @property
    def ideal_per_s(self) -> float:
        """Throughput of the device if every batch is full, with one shape per batch."""
        weights = sum(kind.weight for kind in self.kinds)
        ms_per_image = sum(
            kind.weight / weights * self.device.run_ms(MAX_BATCH, _pixels(kind)) / MAX_BATCH for kind in self.kinds
        )
        return 1e3 / ms_per_image

    def load(self, seconds: float | None) -> Load:
        """Create the load of this row; `seconds` overrides the measured time."""
        seconds = seconds or self.seconds
        if self.share_of_ideal is None:
            return Load(self.kinds, seconds, warm_up_s=1.0, clients=self.clients, seed=SEED)
        rate, total = self.ideal_per_s * self.share_of_ideal, sum(kind.weight for kind in self.kinds)
        scaled = [Kind(kind.name, kind.bodies, kind.weight / total * rate) for kind in self.kinds]
        extra = _made(self.extra_sizes) if self.extra_sizes else ()
        rate += sum(kind.weight for kind in extra)
        return Load([*scaled, *extra], seconds, warm_up_s=1.5, rate=rate, seed=SEED)


def rows() -> list[Row]:
    """Return all rows of the table in order."""
    tiny, mixed = "64", "64,96,128"
    share = Figure("throughput, of the ideal", "%", _percent_of_ideal)
    return [
        Row("clients1", "1 client", TINY, tiny, [_p50(at_most=9.3)], clients=1),
        Row("clients8", "8 clients", TINY, tiny, [_with_aim(share, at_least=88)], clients=8),
        Row(
            "clients32",
            f"{CROWD} clients",
            TINY,
            tiny,
            [
                _with_aim(share, at_least=99),
                Figure("CPU of the server per request", "ms", lambda _, trial: trial.server_cpu_ms, ratio_at_most=1.1),
                Figure("memory of the server", "MB", lambda _, trial: trial.resident_mb, at_most=90),
            ],
            clients=CROWD,
        ),
        Row("mixed32", f"64/96/128, {CROWD} clients", MIXED, mixed, [_with_aim(share, at_least=98)], clients=CROWD),
        Row("mixed70", "64/96/128, Poisson 70 %", MIXED, mixed, [_p50(), _p99(75)], share_of_ideal=0.7, seconds=8),
        Row("poisson50", "Poisson 50 %", TINY, tiny, [_p50(at_most=15), _p99(33)], share_of_ideal=0.5, seconds=8),
        Row("poisson80", "Poisson 80 %", TINY, tiny, [_p50(at_most=28), _p99(50)], share_of_ideal=0.8, seconds=8),
        Row("poisson95", "Poisson 95 %", TINY, tiny, [_p50(), _p99(100)], share_of_ideal=0.95, seconds=8),
        *_codec_rows(),
        Row(
            "trace",
            "64/96/128, Poisson 70 %, and 24 MP",
            MIXED,
            mixed,
            [
                Figure("p99 of the small", "ms", _p99_of_small, at_most=75),
                Figure("slowest of the small", "ms", _slowest_small),
                Figure("24 MP sent", "", _large_sent),
                Figure("24 MP restored", "", _large_restored),
            ],
            share_of_ideal=0.7,
            seconds=8,
            peers_too=False,
            extra_sizes=f"6000x4000.jpeg:{LARGE_PER_S}",
        ),
    ]


def _codec_rows() -> list[Row]:
    photos, jpegs = "256", "512.jpeg"
    throughput = Figure("throughput", "/s", lambda _, trial: trial.summary.throughput_per_s)
    return [
        Row(
            "png256",
            f"256x256 PNG, {CROWD} clients",
            PHOTO,
            photos,
            [_with_aim(throughput, ratio_at_least=1.2)],
            clients=CROWD,
        ),
        Row(
            "jpeg512",
            f"512x512 JPEG to PNG, {CROWD} clients",
            PHOTO,
            jpegs,
            [_with_aim(throughput, ratio_at_least=1.3)],
            clients=CROWD,
        ),
        Row(
            "overhead",
            "1 client, 256x256 PNG",
            PHOTO,
            photos,
            [
                Figure("p50 without the run", "ms", _p50_without_run),
                Figure("server's total without inference", "ms", _total_without_inference),
            ],
            clients=1,
            seconds=4,
        ),
    ]


def _p50(at_most: float | None = None) -> Figure:
    return Figure("p50", "ms", lambda _, trial: _latency(trial, "p50"), at_most=at_most)


def _p99(at_most: float) -> Figure:
    return Figure("p99", "ms", lambda _, trial: _latency(trial, "p99"), at_most=at_most)


def _with_aim(figure: Figure, at_least: float | None = None, ratio_at_least: float | None = None) -> Figure:
    return Figure(figure.name, figure.unit, figure.of, at_least=at_least, ratio_at_least=ratio_at_least)


def _latency(trial: Trial, name: str) -> float | None:
    spread = trial.summary.latency_ms
    return None if spread is None else float(getattr(spread, name))


def _percent_of_ideal(row: Row, trial: Trial) -> float:
    return 100 * trial.summary.throughput_per_s / row.ideal_per_s


def _p50_without_run(row: Row, trial: Trial) -> float | None:
    p50 = _latency(trial, "p50")
    return None if p50 is None else p50 - row.device.run_ms(1, _pixels(row.kinds[0]))


def _total_without_inference(_: Row, trial: Trial) -> float | None:
    start, end = trial.recording.window
    differences = []
    for answer in trial.recording.answers:
        if answer.ok and answer.server_timing is not None and start <= answer.intended_at < end:
            stages = dict(re.findall(r"(\w+);dur=([\d.]+)", answer.server_timing))
            differences.append(float(stages["total"]) - float(stages["inference"]))
    return statistics.median(differences) if differences else None


def _p99_of_small(row: Row, trial: Trial) -> float | None:
    spreads = [kind.latency_ms for kind in trial.summary.kinds[: len(row.kinds)] if kind.latency_ms is not None]
    return max((spread.p99 for spread in spreads), default=None)


def _slowest_small(row: Row, trial: Trial) -> float | None:
    spreads = [kind.latency_ms for kind in trial.summary.kinds[: len(row.kinds)] if kind.latency_ms is not None]
    return max((spread.maximum for spread in spreads), default=None)


def _large_sent(row: Row, trial: Trial) -> float:
    return float(trial.summary.kinds[len(row.kinds)].requests)


def _large_restored(row: Row, trial: Trial) -> float:
    return float(trial.summary.kinds[len(row.kinds)].outcomes.get("200", 0))


@cache
def _made(sizes: str) -> tuple[Kind, ...]:
    return tuple(kinds_of_sizes(sizes, "png", SEED))


def _pixels(kind: Kind) -> int:
    width, _, height = kind.name.partition(" ")[0].partition("x")
    return int(width) * int(height)
