"""`promptir restore --engine ray` on a local Ray with two workers, one of which is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray", reason="needs the extra `ray`")

Image = Callable[..., bytes]
Samples = Callable[[bytes], np.ndarray]
PHOTOS = 64
WAIT_S = 240.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc"),
]


def begun(*arguments: object, mark: Path) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PROMPTIR_")}
    settings = {"BACKEND": "simulated", "SIMULATED_BASE_MS": "150", "MAX_BATCH": "1", "SIMULATED_RUN_LOG": str(mark)}
    environment = inherited | {f"PROMPTIR_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "server.cli", "restore", "--engine", "ray", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def workers_of(mark: Path) -> list[int]:
    """The processes of this run's actors: they inherit its environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_actor = b"RayWorker" in (folder / "cmdline").read_bytes()
            if is_actor and os.fsencode(mark) in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return found


def results_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.png")) if folder.is_dir() else []


def test_a_worker_that_is_killed_loses_nothing(tmp_path: Path, png: Image, samples: Samples) -> None:
    photos, out, mark = tmp_path / "in", tmp_path / "out", tmp_path / "runs.csv"
    listed = []
    for number in range(PHOTOS):
        path = photos / f"{number % 4}/{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(16, 24, seed=number))
        listed.append(path.as_uri() if number % 2 else str(path))
    (photos / "0/00.png").write_bytes(b"no image")
    (tmp_path / "list").write_text("\n".join(listed))
    with begun("--list", tmp_path / "list", out, "--jobs", 2, mark=mark) as process:
        give_up = time.monotonic() + WAIT_S
        while len(results_in(out)) < 8:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < give_up, "nothing was restored"
            time.sleep(0.02)
        killed = workers_of(mark)
        assert len(killed) == 2
        os.kill(killed[0], signal.SIGKILL)
        said = process.communicate(timeout=WAIT_S)[1]
    assert process.returncode == 1, said
    assert f"{PHOTOS - 1} restored, 1 failed of {PHOTOS} images" in said
    results = results_in(out)
    assert len(results) == PHOTOS - 1
    for result in results:
        source = Path("/") / result.relative_to(out)
        np.testing.assert_array_equal(samples(result.read_bytes()), samples(source.read_bytes()))
    assert workers_of(mark) == []
