"""Lock probe: the share of time in which a thread of a process holds Python's interpreter lock, and in which code.

py-spy stops the process a hundred times a second and reads from its memory which thread holds the lock, and the stack
of that thread. The share of samples with a holder is the share of time, including time in which the holder waits for a
core.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

SAMPLES_PER_S = 100
PRIORITY = 10
STARTING_S = 1.0
"""In which py-spy has begun to sample."""
_LIBRARIES = "libraries"


@dataclass(frozen=True)
class Held:
    """What the samples of a window say."""

    samples: int
    share: float
    """Share of the samples in which some thread held the lock."""
    modules: Counter[str] = field(default_factory=Counter)
    """Samples with a holder, by the innermost module of the server on its stack."""

    def parts(self, most: int) -> dict[str, float]:
        """Return the modules that hold the lock longest, with their share of the time that it is held."""
        held = max(1, self.modules.total())
        return {module: count / held for module, count in self.modules.most_common(most)}


def find_py_spy() -> str | None:
    """Return the path of py-spy, beside this Python or on the PATH; None if it is not installed."""
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if beside.exists() else shutil.which("py-spy")


async def probe(pid: int, seconds: int, root: Path) -> Held | None:
    """Sample a process for some seconds; None without py-spy, or where it may not look into other processes."""
    if (program := find_py_spy()) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "stacks"
        options = ["--gil", "--format", "raw", "--full-filenames", "--rate", str(SAMPLES_PER_S)]
        command = [program, "record", "--pid", str(pid), *options, "--duration", str(seconds), "--output", str(output)]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_go_first
        )
        said, _ = await process.communicate()
        if process.returncode or not output.exists():
            print(f"the lock was not measured: {said.decode(errors='replace').strip()[-200:]}", file=sys.stderr)
            return None
        return held_of(output.read_text().splitlines(), seconds * SAMPLES_PER_S, root)


def _go_first() -> None:
    # On busy cores a sampler that waits for its turn would see the process mostly when that sleeps.
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))


def held_of(stacks: Iterable[str], samples: int, root: Path) -> Held:
    """Read py-spy's raw format, a stack and its number of samples in each line, of a server in the checkout `root`."""
    modules: Counter[str] = Counter()
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        modules[_module(frames.split(";"), root)] += int(count)
    return Held(samples, min(1.0, modules.total() / samples), modules)


def _module(frames: list[str], root: Path) -> str:
    # The innermost frame of our own, without its line: "name (/path/server/formats/png/writer.py:57)".
    for frame in reversed(frames):
        path = frame.rpartition(" (")[2].rpartition(":")[0]
        if path.startswith(f"{root}/server/"):
            return path[len(f"{root}/server/") :].removesuffix(".py").removesuffix("/__init__")
    return _LIBRARIES
