"""Tests of the CPU share."""

import os
from pathlib import Path

import pytest

from server.backends.cpu_share import threads_for


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores, all of them this process's."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def quota(root: Path, text: str) -> Path:
    """A root folder of a process whose control group has this quota."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/\n")
    (root / "proc/self/mountinfo").write_text("30 23 0:26 / /group rw - cgroup2 cgroup2 rw\n")
    (root / "group").mkdir()
    (root / "group/cpu.max").write_text(text)
    return root


@pytest.mark.usefixtures("machine")
def test_the_setting_wins(tmp_path: Path) -> None:
    assert threads_for(3, quota(tmp_path, "100000 100000")) == 3


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("text", ["max 100000", "800000 100000", "nonsense", ""])
def test_a_whole_machine_leaves_the_choice_to_the_runtime(tmp_path: Path, text: str) -> None:
    assert threads_for(0, quota(tmp_path, text)) == 0


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("text", "threads"), [("250000 100000", 2), ("50000 100000", 1)])
def test_a_containers_quota_bounds_the_threads(tmp_path: Path, text: str, threads: int) -> None:
    assert threads_for(0, quota(tmp_path, text)) == threads


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("workers", "text", "threads"), [(2, "max 100000", 4), (3, "400000 100000", 1), (9, "", 1)])
def test_workers_side_by_side_divide_the_cores(tmp_path: Path, workers: int, text: str, threads: int) -> None:
    assert threads_for(0, quota(tmp_path, text), workers=workers) == threads


@pytest.mark.usefixtures("machine")
def test_an_affinity_mask_bounds_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5}, raising=False)
    assert threads_for(0, tmp_path / "none") == 2
