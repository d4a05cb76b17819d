"""Measures everything that only a GPU can tell, in ten minutes: see docs/gpu.md.

Each stage is a process with a time limit of its own, and a stage that fails or hangs does not stop the next. Results
are written to --output as they come, in at most eight files. What is left of the time trains the default network, if
photos are given. To try it without a GPU: --device cpu --variant promptir-tiny --sizes 32 40x32 --dry-run
"""

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gpu_results import as_table, parse_size, read_results, size_name
from gpu_training import train_command, training_files

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
SIZES = ((256, 256), (512, 512), (480, 720), (1024, 1024))
LEAST_TRAINING_S = 20.0
CLOSING_S = 5.0
INSTALL_S = 60.0
KILL_S = 3.0
NO_TIME = "left out: no time was left"
PATIENCE = 8
"""Factor on the time limits of a dry run, which measures nothing and may run on a busy machine."""


@dataclass(frozen=True)
class Stage:
    """A stage, its time limit, and the networks that it measures (None: all of them)."""

    name: str
    limit_s: float
    variant: str | None = None


@dataclass
class Outcome:
    """How a stage ended."""

    stage: str
    seconds: float
    outcome: str
    """"done", "failed", "stopped at its limit", or the reason why it was left out."""


@dataclass
class Window:
    """The whole measurement: its options, its deadline and what has ended so far."""

    options: argparse.Namespace
    environment: dict[str, str]
    began: float = field(default_factory=time.monotonic)
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def left_s(self) -> float:
        return self.options.minutes * 60 - CLOSING_S - (time.monotonic() - self.began)

    def run(self, name: str, command: list[str], limit_s: float) -> None:
        """Run one stage and note how it ended; its output goes to log.txt."""
        limit_s = min(limit_s * (PATIENCE if self.options.dry_run else 1), self.left_s)
        if limit_s <= 1:
            self.note(Outcome(name, 0.0, NO_TIME))
            return
        print(f"== {name}, at most {limit_s:.0f} s", flush=True)
        began = time.monotonic()
        with (self.options.output / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"== {name}\n")
            log.flush()
            process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, process_group=0)
            try:
                code = process.wait(limit_s)
                outcome = "done" if code == 0 else f"failed with exit code {code}"
            except subprocess.TimeoutExpired:
                outcome = "stopped at its limit"
            finally:
                _end_group(process)
        self.note(Outcome(name, round(time.monotonic() - began, 1), outcome))

    def note(self, outcome: Outcome) -> None:
        """Add an outcome, and write the report and the table of the results so far."""
        print(f"   {outcome.outcome} after {outcome.seconds} s", flush=True)
        self.outcomes.append(outcome)
        folder: Path = self.options.output
        report = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self.began, 1),
            "dry_run": self.options.dry_run,
            "stages": [asdict(one) for one in self.outcomes],
        }
        (folder / "window.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (folder / "table.md").write_text(as_table(read_results(folder)), encoding="utf-8")


def main() -> int:
    options = _parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # which ends the stage that runs
    if options.dry_run:
        options.minutes *= PATIENCE
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as site:
        window = Window(options, _environment(site))
        if options.wheels is not None:
            install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
            wheels = sorted(map(str, options.wheels.glob("*.whl")))
            window.run("wheels", [*install, "--target", site, *wheels], INSTALL_S)
        tests = ["-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu"]
        for stage in _stages(options):
            command = [sys.executable, "-m", "pytest", *tests] if stage.name == "tests" else _command(stage, options)
            window.run(stage.name, command, stage.limit_s)
        _train(window)
    failed = [one for one in window.outcomes if one.outcome.startswith(("failed", "stopped", NO_TIME))]
    print(f"{len(window.outcomes) - len(failed)} of {len(window.outcomes)} stages ended well; see {options.output}")
    return 1 if failed else 0


def _stages(options: argparse.Namespace) -> list[Stage]:
    """Return the stages in the order of their worth; those that compile come last, before the training."""
    large = options.variant[0]

    def each(stage: str, large_s: float, small_s: float) -> list[Stage]:
        return [Stage(stage, large_s if name == large else small_s, name) for name in options.variant]

    return [
        Stage("machine", 20.0),
        Stage("tests", 70.0),
        *each("modules", 50.0, 25.0),
        *each("fused", 70.0, 45.0),
        Stage("served", 30.0),
        Stage("kernels", 25.0),
        Stage("switches", 35.0, options.variant[-1]),
        Stage("server", 45.0, options.variant[-1]),
        *each("compiled", 50.0, 30.0),
    ]


def _command(stage: Stage, options: argparse.Namespace) -> list[str]:
    variants = options.variant if stage.variant is None else [stage.variant]
    measured = ["--device", options.device, "--variant", *variants, "--sizes", *map(size_name, options.sizes)]
    limits = ["--batch", str(options.batch), "--seconds", str(0.8 * stage.limit_s), "--output", str(options.output)]
    dry_run = ["--dry-run"] if options.dry_run else []
    return [sys.executable, str(FOLDER / "gpu_stages.py"), stage.name, *measured, *limits, *dry_run]


def _train(window: Window) -> None:
    options = window.options
    if options.photos is None and not options.dry_run:
        window.note(Outcome("training", 0.0, "left out: no --photos were given"))
        return
    if window.left_s < LEAST_TRAINING_S:
        window.note(Outcome("training", 0.0, NO_TIME))
        return
    with tempfile.TemporaryDirectory() as run:
        command = train_command(options, Path(run), window.left_s)
        window.run("training", command, window.left_s)
        training_files(Path(run), options.output)


def _environment(site: str) -> dict[str, str]:
    paths = [site, str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")},
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
    }


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a stage and what it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILL_S)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/gpu-window"), help="folder of the results")
    parser.add_argument("--minutes", type=float, default=9.0, help="time for everything (9)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--variant", nargs="+", default=["promptir", "promptnaf"], help="networks to measure")
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=SIZES, metavar="SIDE|WIDTHxHEIGHT")
    parser.add_argument("--batch", type=int, default=8, help="images of the larger batches (8)")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="packages to install first, from make gpu-wheels")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="clean photos to train on for the time left")
    parser.add_argument("--checkpoint", type=Path, metavar="last.pt", help="training run to continue")
    parser.add_argument(
        "--training", default="", metavar="OPTIONS", help="options of that run, such as '--minutes 600'"
    )
    parser.add_argument("--dry-run", action="store_true", help="run everything once and briefly")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
