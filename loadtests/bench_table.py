"""Table of the scheduler benchmark: our figures, the reference's and the targets."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bench_rows import Figure, Row, Trial


@dataclass(frozen=True)
class Line:
    """One figure of our server and the reference, and whether ours meets the target."""

    row: str
    title: str
    figure: str
    unit: str
    ours: float | None
    reference: float | None
    ratio: float | None
    """Our value divided by the reference's: the median of the rounds, each with its own moment of the machine."""
    aim: str
    met: bool | None
    others: tuple[float, ...]
    """CPU share of other processes while ours, and while the reference, was measured."""

    def as_json(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self)

    def __str__(self) -> str:
        cells = (_text(self.ours, self.unit), _text(self.reference, self.unit), _text(self.ratio, "x"))
        met = {True: "yes", False: "NO", None: ""}[self.met]
        others = ", ".join(f"{share:.0%}" for share in self.others)
        name = f"{self.title}: {self.figure}"
        return _row(name, cells, self.aim, met, others)


def lines_of(row: Row, rounds: Mapping[str, Sequence[Trial]]) -> list[Line]:
    """Return the lines of a row that each server was measured on in one or more rounds; figures are their medians."""
    lines = []
    others = tuple(median(trial.others_share for trial in trials) for trials in rounds.values())
    for figure in row.figures:
        ours, reference = ([figure.of(row, trial) for trial in rounds.get(name, ())] for name in ("ours", "reference"))
        ratio = _middle([own / other for own, other in zip(ours, reference, strict=False) if own is not None and other])
        own, other = _middle(ours), _middle(reference)
        aim, met = _judged(figure, own, ratio)
        lines.append(Line(row.name, row.title, figure.name, figure.unit, own, other, ratio, aim, met, others))
    return lines


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def markdown(report: Mapping[str, Any], table: Sequence[Line], notes: Sequence[str]) -> str:
    """Format the table in Markdown, with the machine it was measured on and any warnings."""
    where = report["provenance"]
    late = where["late_wake_ups_ms"]
    changes = " with uncommitted changes" if where["uncommitted_changes"] else ""
    head = [
        f"{where['date']}, {where['cpu']}, {where['usable_cores']} cores, Python {where['python']}, "
        f"commit {where['commit'][:12]}{changes}.",
        f"Before the first row: load average {where['load_average_1_min']:.2f}, a sleep of 1 ms ended "
        f"{late['p50']:.2f} ms late (p99 {late['p99']:.2f}).",
        "Column others: share of all cores used by other processes while ours and while the reference was measured.",
        "",
    ]
    names = _row("", ("ours", "reference", "ratio"), "aim", "met", "others")
    rule = "| --- | ---: | ---: | ---: | --- | --- | --- |"
    body = [names, rule, *map(str, table), ""] if table else []
    return "\n".join([*head, *body, *_of_echo(report), *(f"- {note}" for note in notes)]) + "\n"


def _row(name: str, cells: Sequence[str], aim: str, met: str, others: str) -> str:
    return f"| {name:<58} | {' | '.join(f'{cell:>10}' for cell in cells)} | {aim:<15} | {met:<3} | {others:<8} |"


def _judged(figure: Figure, ours: float | None, ratio: float | None) -> tuple[str, bool | None]:
    if figure.at_most is not None:
        return f"at most {figure.at_most:g} {figure.unit}", ours is not None and ours <= figure.at_most
    if figure.at_least is not None:
        return f"at least {figure.at_least:g} {figure.unit}", ours is not None and ours >= figure.at_least
    if figure.ratio_at_least is not None:
        return f"at least {figure.ratio_at_least:g} x", ratio is not None and ratio >= figure.ratio_at_least
    if figure.ratio_at_most is not None:
        return f"at most {figure.ratio_at_most:g} x", ratio is not None and ratio <= figure.ratio_at_most
    return "", None


def _of_echo(report: Mapping[str, Any]) -> list[str]:
    if "echo" not in report:
        return []
    lone, crowd, paced = (report["echo"][name] for name in ("lone", "crowd", "paced"))
    return [
        f"The load generator with a server that only echoes: 1 client p50 {lone['latency_ms']['p50']:.2f} ms, "
        f"32 clients {crowd['throughput_per_s']:.0f}/s at {crowd['client_cpu_ms_per_request']:.2f} ms of its own CPU a "
        f"request, {paced['offered_per_s']:.0f}/s Poisson p50 {paced['latency_ms']['p50']:.2f} ms, "
        f"p99 {paced['latency_ms']['p99']:.2f} ms, "
        f"sent {paced['lateness_ms']['p50']:.2f} ms late (p99 {paced['lateness_ms']['p99']:.2f}).",
        "",
    ]


def _text(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if not unit else f"{value:.2f} {unit}"
