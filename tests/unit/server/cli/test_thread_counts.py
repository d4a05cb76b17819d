"""Tests of the libraries' thread counts, in a separate process, since libraries read them when they load."""

import json
import os
import subprocess
import sys

import pytest

# A machine of 64 cores, limited by the process's affinity mask.
PROGRAM = """
import json, os, sys
os.cpu_count = lambda: {machine}
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
from server.cli import main
assert "numpy" not in sys.modules
main(["config"])
names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
print(json.dumps([os.environ.get(name) for name in names] + [len(os.listdir("/proc/self/task"))]))
"""


def told(machine: int, **variables: str) -> list[object]:
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    inherited = {name: value for name, value in inherited.items() if not name.startswith("PROMPTIR_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(machine=machine)],
        env=inherited | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    counts: list[object] = json.loads(done.stdout.splitlines()[-1])
    return counts


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc and sets an affinity mask")
def test_one_core_gives_libraries_one_thread_unless_they_are_told_otherwise() -> None:
    assert told(64) == ["1", "1", 1]
    assert told(64, OMP_NUM_THREADS="3")[:2] == ["3", "1"]
    assert told(1)[:2] == [None, None]
