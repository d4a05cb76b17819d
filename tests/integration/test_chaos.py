"""Short chaos tests: each fault for a moment, with the script of docs/reliability.md."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "loadtests" / "chaos.py"
SECONDS, TIMEOUT_S = 1.5, 240

Figures = dict[str, dict[str, Any]]


def chaos(folder: Path, *faults: str, seconds: float = SECONDS) -> Figures:
    """Inject faults, check that none did harm, and return the figures."""
    figures = folder / "figures.json"
    command = [sys.executable, SCRIPT, *faults, "--seconds", str(seconds), "--json", figures]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    found: Figures = json.loads(figures.read_text())
    for figure in found.values():
        counts = figure["counts"]
        assert (counts["wrong"], counts["lost"], counts["unexpected"], figure["violations"]) == (0, 0, {}, [])
        assert counts["restored"] > 0
        assert figure["faults"] > 0
        assert counts["accepted"] == counts["done"] + sum(counts["reported"].values())
    return found


def test_a_server_that_is_killed_loses_no_picture_and_no_job(tmp_path: Path) -> None:
    counts = chaos(tmp_path, "kill")["kill"]["counts"]
    assert counts["retried"]["cut off"] > 0
    assert counts["done"] > 0
    assert not counts["reported"]


def test_a_sigterm_cuts_nobody_off_and_loses_nothing(tmp_path: Path) -> None:
    figure = chaos(tmp_path, "terminate")["terminate"]
    assert figure["notes"]["cut off"] == 0
    assert not figure["counts"]["reported"]


def test_what_a_device_does_wrong_reaches_nobody(tmp_path: Path) -> None:
    faults = ("lost", "thread", "hang", "out-of-memory", "not-finite", "wrong-shape", "error")
    found = {name: figure["counts"] for name, figure in chaos(tmp_path, *faults).items()}
    for name in ("lost", "thread", "hang"):
        assert set(found[name]["retried"]) <= {"500 backend-lost", "503 not-ready"}
        assert not found[name]["reported"]  # a job is restarted after the loss of a device
    assert not found["out-of-memory"]["retried"]  # smaller runs, which clients do not notice
    for name, problem in (("not-finite", "wrong-output"), ("wrong-shape", "wrong-output"), ("error", "backend-error")):
        assert set(found[name]["retried"]) <= {f"500 {problem}"}
        assert set(found[name]["reported"]) <= {f"job {problem}"}


def test_codec_processes_that_are_killed_cost_no_picture(tmp_path: Path) -> None:
    figure = chaos(tmp_path, "codec", seconds=6.0)["codec"]
    assert set(figure["counts"]["retried"]) <= {"500 codec-lost"}


def test_http_processes_that_are_killed_cut_off_their_own_requests_alone(tmp_path: Path) -> None:
    figure = chaos(tmp_path, "http", seconds=8.0)["http"]
    starting = {"503 not-ready"}  # of a process that is not warm when the first one is, at the start of the server
    assert set(figure["counts"]["retried"]) <= {"cut off"} | starting


def test_what_a_device_does_wrong_reaches_nobody_through_http_processes(tmp_path: Path) -> None:
    for figure in chaos(tmp_path, "http-lost", "http-hang").values():
        assert set(figure["counts"]["retried"]) <= {"500 backend-lost", "503 not-ready"}


def test_bad_connections_affect_no_other_client(tmp_path: Path) -> None:
    figures = chaos(tmp_path, "slow", "half-closed")
    assert figures["slow"]["notes"]["slow body: 408"] > 0
    for figure in figures.values():
        assert not figure["counts"]["retried"]


def test_a_full_disk_refuses_jobs_and_nothing_else(tmp_path: Path) -> None:
    counts = chaos(tmp_path, "full-disk")["full-disk"]["counts"]
    assert set(counts["retried"]) <= {"507 disk-full", "429 jobs-full"}
    assert counts["done"] > 0


def test_a_clock_that_jumps_moves_what_expires_and_nothing_else(tmp_path: Path) -> None:
    assert not chaos(tmp_path, "clock")["clock"]["counts"]["retried"]


def test_an_unknown_fault_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="unknown fault: flood"):
        chaos(tmp_path, "flood")
