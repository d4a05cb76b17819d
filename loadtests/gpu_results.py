"""Options of the stages of a GPU window, and their results, which are appended to one file as they come."""

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

RESULTS_FILE = "results.jsonl"
Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Options:
    """What the stages measure and for how long."""

    device: str
    variants: tuple[str, ...]
    sizes: tuple[Size, ...]
    batch: int
    """Images of the larger batches; single images are measured too."""
    folder: Path
    seconds: float
    """After this time a stage starts no further measurement."""
    dry_run: bool = False
    """Whether to run everything once and briefly, to see that it works."""
    began: float = field(default_factory=time.monotonic)

    @property
    def is_over(self) -> bool:
        """Whether the time of the stage is used up."""
        return time.monotonic() - self.began > self.seconds

    @property
    def on_cuda(self) -> bool:
        return self.device.startswith("cuda")


@dataclass(frozen=True)
class Results:
    """The results of one stage."""

    folder: Path
    stage: str

    def add(self, **fields: object) -> None:
        """Append one result, as a line of JSON, and print it. Numbers that are not finite are left out."""
        known = {name: value for name, value in fields.items() if not _is_missing(value)}
        line = json.dumps({"stage": self.stage, **known}, allow_nan=False)
        print(line, flush=True)
        with (self.folder / RESULTS_FILE).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def read_results(folder: Path) -> list[dict[str, object]]:
    """Return all results so far; a line that was cut off by the end of its stage is left out."""
    path = folder / RESULTS_FILE
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def parse_size(text: str) -> Size:
    """Parse SIDE or WIDTHxHEIGHT, both multiples of 8; raise ValueError otherwise."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if found is None or int(found[1]) % 8 or int(found[2] or 0) % 8:
        raise ValueError(f"{text!r} is not SIDE or WIDTHxHEIGHT in multiples of 8, such as 512 or 720x480")
    return int(found[2] or found[1]), int(found[1])


def size_name(size: Size) -> str:
    """Format a size as WIDTHxHEIGHT."""
    return f"{size[1]}x{size[0]}"


def as_table(rows: list[dict[str, object]]) -> str:
    """Format results as one Markdown table for each stage, with the columns that its results have."""
    parts = []
    for stage in dict.fromkeys(str(row["stage"]) for row in rows):
        own = [row for row in rows if row["stage"] == stage]
        columns = [name for name in dict.fromkeys(name for row in own for name in row) if name != "stage"]
        lines = [f"## {stage}", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(_cell(row, name) for name in columns) + " |" for row in own]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _cell(row: Mapping[str, object], name: str) -> str:
    value = row.get(name, "")
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))
