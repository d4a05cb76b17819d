"""`make gpu-window` without a GPU: a dry run of all stages, stages that fail, and the packages that it takes along."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LOADTESTS = PROJECT / "loadtests"
TIMEOUT_S = 900
MOST_FILES = 8


def window(output: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, LOADTESTS / "gpu_window.py", "--device", "cpu", "--output", output, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.mark.slow  # minutes, most of them of torch.compile
def test_a_dry_run_of_all_stages_ends_well_and_leaves_few_files(tmp_path: Path) -> None:
    small = ("--variant", "promptir-tiny", "--sizes", "16", "24x16", "--batch", 2, "--dry-run")
    ended = window(tmp_path, *small)
    log = (tmp_path / "log.txt").read_text()
    assert ended.returncode == 0, ended.stdout + log[-3000:]
    assert len(list(tmp_path.iterdir())) <= MOST_FILES
    stages = json.loads((tmp_path / "window.json").read_text())["stages"]
    names = ["machine", "tests", "modules", "fused", "served", "kernels", "switches", "server", "compiled"]
    names.append("training")
    assert [(stage["stage"], stage["outcome"]) for stage in stages] == [(name, "done") for name in names]
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert {row["stage"] for row in rows} == set(names) - {"tests", "training"}
    timed = {(row["way"], row["size"], row["batch"]): row for row in rows if row["stage"] in ("modules", "compiled")}
    assert timed["eager FP32", "24x16", 2]["psnr_db"] > 130
    for way in ("eager FP16", "compiled FP16"):
        assert 50 < timed[way, "16x16", 1]["psnr_db"] < 130, "half precision is near, and not the same"
    assert "need a CUDA device" in timed["FP16, CUDA graph", "16x16", 1]["reason"]
    assert all(row["ms_per_image"] > 0 for row in timed.values() if "reason" not in row)
    assert all(row["served_by_bare"] > 0 for row in rows if row["stage"] == "served")
    switched = {row["what"]: row for row in rows if row["stage"] == "switches"}
    assert switched["new sizes"]["first_run_ms"] > 0
    assert switched["evicted graphs"]["largest_difference"] == 0
    assert all(report["requests"] for report in json.loads((tmp_path / "bench.json").read_text()))
    assert "aten::" in (tmp_path / "kernels.txt").read_text()
    assert "not measured" not in (tmp_path / "table.md").read_text()


def test_stages_that_fail_or_take_too_long_do_not_stop_the_others(tmp_path: Path) -> None:
    began = time.monotonic()
    ended = window(tmp_path, "--variant", "no-such-network", "--minutes", 0.4)
    assert time.monotonic() - began < 300
    assert ended.returncode == 1
    outcomes = {
        stage["stage"]: stage["outcome"] for stage in json.loads((tmp_path / "window.json").read_text())["stages"]
    }
    assert outcomes["training"] == "left out: no --photos were given"
    assert set(outcomes) >= {"machine", "tests", "modules", "served", "kernels", "switches", "server", "compiled"}


def test_a_window_whose_time_ran_out_did_not_end_well(tmp_path: Path) -> None:
    ended = window(tmp_path, "--variant", "promptir-tiny", "--minutes", 0.01)
    assert ended.returncode == 1
    assert "1 of 10 stages ended well" in ended.stdout  # training has no photos to begin with
    stages = json.loads((tmp_path / "window.json").read_text())["stages"]
    assert {stage["outcome"] for stage in stages[:-1]} == {"left out: no time was left"}


def test_the_wheels_that_are_taken_along_are_those_of_the_images() -> None:
    locks = "".join((PROJECT / "docker/locks" / f"{name}.txt").read_text() for name in ("cpu", "export"))
    pins = re.findall(r"^[\w.-]+==\S+$", (LOADTESTS / "gpu_wheels.txt").read_text(), re.MULTILINE)
    assert len(pins) > 10
    for pin in pins:
        assert f"\n{pin} " in f"\n{locks}", f"{pin} is not what docker/locks has"


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="this machine has a GPU")
def test_without_a_gpu_the_stages_say_so(tmp_path: Path) -> None:
    command = [sys.executable, LOADTESTS / "gpu_stages.py", "machine", "--variant", "promptir-tiny", "--sizes", "16"]
    ended = subprocess.run(
        [*map(str, command), "--seconds", "5", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == 1
    assert "finds no usable NVIDIA GPU" in ended.stderr or "has no CUDA" in ended.stderr
