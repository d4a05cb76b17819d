"""Record of the machine, software and commit that results were measured with."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "fastapi",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "aiohttp",
    "numpy",
    "opencv-python-headless",
    "isal",
)
_NAPS = 200
_NAP_S = 1e-3


def provenance() -> dict[str, Any]:
    """Return date, machine, versions and commit, and the current load of the machine."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "load_average_1_min": os.getloadavg()[0],
        "late_wake_ups_ms": _late_wake_ups_ms(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def _late_wake_ups_ms() -> dict[str, float]:
    # On an idle machine, a sleep of one millisecond ends within a tenth of one; other load shows up here.
    late = []
    for _ in range(_NAPS):
        began = time.perf_counter()
        time.sleep(_NAP_S)
        late.append((time.perf_counter() - began - _NAP_S) * 1e3)
    p50, p99 = np.quantile(late, (0.5, 0.99)).tolist()
    return {"p50": round(p50, 3), "p99": round(p99, 3), "max": round(max(late), 3)}
