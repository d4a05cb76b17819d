"""Front benchmark: what the server itself costs an image, beside a simulated device that costs nothing.

Closed-loop clients send images of one size; for each size and pair of formats this prints images a second, busy cores,
processor time an image, and how long an image holds Python's interpreter lock: its inverse is the most that one process
can do on any number of cores. With HTTP processes, the first figure is of the process that runs the device, and the
second of the HTTP process that answers. `--trees` measures other checkouts in turn with this one. Writes FILE.json and
FILE.md.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # measure the checkout, not an installed version

from lock_probe import STARTING_S, Held, find_py_spy, probe  # noqa: E402
from peers import Peer, ProcessProbe, SimulatedDevice, promptir, run_and_wait_s  # noqa: E402
from provenance import provenance  # noqa: E402

from server.cli.bench.load import Load, Probe, Recording, apply  # noqa: E402
from server.cli.bench.sender import Sender  # noqa: E402
from server.cli.bench.uploads import kinds_of_sizes  # noqa: E402

SIZES, FORMATS = ("64", "256", "512", "1920x1080"), ("jpeg", "png")
CASES = tuple(f"{size}.{taken}-{given}" for size in SIZES for taken in FORMATS for given in reversed(FORMATS))
FREE = SimulatedDevice(0, 0)
AS_ON_A_GPU = {"max_whole_pixels": 2_097_152, "max_run_pixels": 2_097_152}
CLIENTS = 32
WARM_UP_S = 0.7
LONGEST_S = 60.0
"""A window from here on that has no answer is not repeated."""
TIMEOUT_S = 60.0
SHOWN_PARTS = 6
DEFAULT_OUTPUT = ROOT / "runs" / "front"


@dataclass(frozen=True)
class Subject:
    """One server to measure: a checkout, the settings that it starts with, and the Python that runs it."""

    name: str
    root: Path
    settings: dict[str, str] = field(default_factory=dict)
    python: str | Path = sys.executable


@dataclass(frozen=True)
class Figures:
    """What one server did in one case; times in milliseconds an image."""

    case: str
    subject: str
    per_s: float
    cores: float
    cpu_ms: float
    others_share: float
    """Share of all cores used by neither the server nor the load generator meanwhile."""
    lock_ms: float | None
    """Milliseconds for which an image holds the interpreter lock of the server; None without py-spy."""
    parts_ms: dict[str, float]
    """The modules that hold it longest."""
    on_core: float
    """Share of its runnable time in which the server ran: else it waited for a core."""
    http_lock_ms: float | None = None
    """The same as `lock_ms`, of the HTTP process that answers the image; None where there is one process."""

    @property
    def ceiling_per_s(self) -> float | None:
        """Images a second at which the lock would always be held."""
        return 1e3 / self.lock_ms if self.lock_ms else None


def main() -> int:
    options = _options()
    subjects = _subjects(options)
    if find_py_spy() is None:
        print("py-spy is not installed (pip install py-spy): the lock is not measured", file=sys.stderr)
    asked = {name: getattr(options, name) for name in ("clients", "seconds", "rounds")}
    report: dict[str, Any] = {"provenance": provenance(), **asked}
    found: list[Figures] = []
    with ExitStack() as peers:
        running = []
        for subject in subjects:
            settings = {**AS_ON_A_GPU, "log_level": "WARNING", **subject.settings}
            server = promptir(FREE, root=subject.root, python=subject.python, **settings)
            running.append((subject, peers.enter_context(server)))
        print(_HEAD, flush=True)
        for case in options.cases:
            load = options.clients, options.seconds
            rounds = [
                [uvloop.run(measured(case, subject, peer, *load)) for subject, peer in running]
                for _ in range(options.rounds)
            ]
            found += (middle := [_middle(several) for several in zip(*rounds, strict=True)])
            print(*map(_line, middle), sep="\n", flush=True)
    report["figures"] = [{**asdict(one), "ceiling_per_s": one.ceiling_per_s} for one in found]
    _write(options.output, report, found)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cases", nargs="+", choices=CASES, default=CASES, metavar="CASE", help=f"only these, of {', '.join(CASES)}"
    )
    parser.add_argument("--trees", nargs="*", type=Path, default=[], metavar="FOLDER", help="other checkouts")
    parser.add_argument(
        "--pythons",
        nargs="*",
        type=_named_file,
        default=[],
        metavar="NAME=FILE",
        help="measure this checkout under other Pythons as well, each of a virtual environment with its packages",
    )
    parser.add_argument(
        "--codec-processes", nargs="*", default=[], metavar="N", help="measure this checkout with N processes as well"
    )
    parser.add_argument(
        "--http-processes", nargs="*", default=[], metavar="N", help="measure this checkout with N of them as well"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of each window (3); there are two a case")
    parser.add_argument("--rounds", type=int, default=1, help="of each case (1): servers take turns; shows medians")
    parser.add_argument("--clients", type=int, default=CLIENTS, help=f"that send one image at a time ({CLIENTS})")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, metavar="FILE", help="path without suffix")
    return parser.parse_args()


def _subjects(options: argparse.Namespace) -> list[Subject]:
    others = [Subject(tree.resolve().name, tree.resolve()) for tree in options.trees]
    counts: list[str] = options.codec_processes
    processes = [Subject(f"{count} codec processes", ROOT, {"codec_processes": count}) for count in counts]
    fronts = [Subject(f"{n} HTTP processes", ROOT, {"http_processes": n}) for n in options.http_processes]
    own = [Subject("ours", ROOT), *processes, *fronts]
    pythons = [replace(one, name=f"{one.name}, {name}", python=file) for name, file in options.pythons for one in own]
    return [*others, *own, *pythons]


def _named_file(text: str) -> tuple[str, Path]:
    name, _, file = text.partition("=")
    if not name or not file:
        raise argparse.ArgumentTypeError(f"{text!r} must have a name and a file: write NAME=FILE")
    return name, Path(file).absolute()  # unresolved, as the path of a virtual environment has to be


async def measured(case: str, subject: Subject, peer: Peer, clients: int, seconds: float) -> Figures:
    """Measure a case in two windows: the first undisturbed, the second with py-spy, which slows the server.

    The lock is held for the share of the second window times the seconds an image takes in the first. A holder that
    waits for a core holds it longer, which says nothing about the server. So both are taken times the share of its
    runnable time in which the server ran.
    """
    size, _, given = case.partition("-")
    kinds, sampled_s = kinds_of_sizes(size, "png", 0), max(1, round(seconds))
    watched = [_Watched([peer.process.pid], sampled_s, subject.root)]
    if "http_processes" in subject.settings:
        watched.append(_Watched(peer.children(), sampled_s, subject.root))
    use = ProcessProbe(peer)
    async with Sender(f"{peer.url}/restore?format={given}", {}, None, TIMEOUT_S) as sender:
        images = await _images(Load(kinds, seconds, WARM_UP_S, clients=clients), sender, [use, *watched])
        if find_py_spy() is not None:
            locks = [one.lock for one in watched]
            await apply(Load(kinds, sampled_s + STARTING_S, 0.0, clients=clients), sender, locks)
    began, ended = use.window()
    window_s, cpu_s = ended.read_at - began.read_at, ended.peer_s - began.peer_s
    lock_ms, *of_http = [one.lock_ms(window_s / images) for one in watched]
    held = watched[0].lock.held[:1]
    parts = held[0].parts(SHOWN_PARTS) if held else {}
    return Figures(
        case,
        subject.name,
        images / window_s,
        cpu_s / window_s,
        cpu_s / images * 1e3,
        use.others_share(),
        lock_ms,
        {module: share * (lock_ms or 0.0) for module, share in parts.items()},
        watched[0].on_core,
        next(iter(of_http), None),
    )


def _middle(rounds: Sequence[Figures]) -> Figures:
    """Return the medians of a case that one server was measured in several times; the parts are of the middle round."""
    middle = sorted(rounds, key=lambda one: one.lock_ms or one.cpu_ms)[len(rounds) // 2]
    numbers = ("per_s", "cores", "cpu_ms", "others_share", "lock_ms", "on_core", "http_lock_ms")
    known = [name for name in numbers if getattr(middle, name) is not None]
    return replace(middle, **{name: median(getattr(one, name) for one in rounds) for name in known})


class _Watched:
    """Processes whose lock is sampled, and the share of the time in which their threads could run that they did run."""

    def __init__(self, pids: list[int], seconds: int, root: Path) -> None:
        self.on_core = 1.0
        self.lock = _LockWindow(pids, seconds, root)
        self._pids = pids
        self._before = (0.0, 0.0)

    async def begin(self) -> None:
        self._before = run_and_wait_s(self._pids)

    async def end(self) -> None:
        ran, waited = (now - before for now, before in zip(run_and_wait_s(self._pids), self._before, strict=True))
        self.on_core = ran / (ran + waited)

    def lock_ms(self, seconds_an_image: float) -> float | None:
        """Return for how many milliseconds an image holds their locks; None without py-spy."""
        held = self.lock.held
        return sum(one.share for one in held) * self.on_core * seconds_an_image * 1e3 if held else None


class _LockWindow:
    """Samples the locks of processes over the measured window of a load."""

    def __init__(self, pids: list[int], seconds: int, root: Path) -> None:
        self.held: list[Held] = []
        self._pids, self._seconds, self._root = pids, seconds, root
        self._sampling: list[asyncio.Task[Held | None]] = []

    async def begin(self) -> None:
        self._sampling = [asyncio.create_task(probe(pid, self._seconds, self._root)) for pid in self._pids]

    async def end(self) -> None:
        self.held = [held for sampling in self._sampling if (held := await sampling) is not None]


async def _images(load: Load, sender: Sender, probes: Sequence[Probe]) -> int:
    # Returns how many were answered in the window. Doubles it until there is one: large images come back in bursts.
    while not (images := _answered(await apply(load, sender, probes))):
        if load.seconds >= LONGEST_S:
            raise RuntimeError(f"no image was answered in {load.seconds:g} s")
        load = replace(load, seconds=2 * load.seconds)
    return images


def _answered(recording: Recording) -> int:
    began, ended = recording.window
    wrong = {answer.outcome for answer in recording.answers if not answer.ok}
    images = sum(1 for answer in recording.answers if answer.ok and began <= answer.ended_at < ended)
    if wrong:
        raise RuntimeError(f"the server answered with {', '.join(sorted(wrong))}")
    return images


_HEAD = (
    "| image | server | images/s | cores busy | CPU ms an image | lock ms an image | one process ends at | "
    "lock held in (ms) |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
)


def _line(one: Figures) -> str:
    held = "-" if one.lock_ms is None else f"{one.lock_ms:.2f}"
    held += "" if one.http_lock_ms is None else f" and {one.http_lock_ms:.2f}"
    ceiling = "-" if one.ceiling_per_s is None else f"{one.ceiling_per_s:.0f}/s"
    parts = ", ".join(f"{module} {ms:.2f}" for module, ms in one.parts_ms.items())
    figures = f"{one.per_s:.0f} | {one.cores:.2f} | {one.cpu_ms:.2f} | {held} | {ceiling} | {parts}"
    return f"| {one.case.replace('-', ' to ')} | {one.subject} | {figures} |"


def _write(output: Path, report: dict[str, Any], found: Sequence[Figures]) -> None:
    where = report["provenance"]
    others = sum(one.others_share for one in found) / len(found)
    text = "\n".join(
        [
            f"{where['date']}, {where['cpu']}, {where['usable_cores']} cores, Python {where['python']}, commit "
            f"{where['commit'][:12]}{' with uncommitted changes' if where['uncommitted_changes'] else ''}; "
            f"{report['clients']} clients; other programs used {others:.0%} of the cores.",
            "",
            _HEAD,
            *map(_line, found),
        ]
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    output.with_suffix(".md").write_text(text + "\n")
    print(f"\n{output}.json and .md")


if __name__ == "__main__":
    sys.exit(main())
