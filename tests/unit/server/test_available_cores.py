"""Tests of the number of available cores, with files like the kernel's."""

import os
from pathlib import Path

import pytest

from server.concurrency import available_cores

V1_MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)
V2_MOUNTS = "22 1 0:5 / /proc rw - proc proc rw\n30 23 0:26 {top} {folder} rw - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the process may use eight cores."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


class Kernel:
    """Root folder with a process's kernel files."""

    def __init__(self, root: Path, group: str, mounts: str) -> None:
        self.root = root
        (root / "proc/self").mkdir(parents=True)
        (root / "proc/self/cgroup").write_text(group)
        (root / "proc/self/mountinfo").write_text(mounts)

    def group(self, path: str, **files: str) -> None:
        folder = self.root / "sys/fs/cgroup" / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / f"cpu.{name}").write_text(text)


def v2(root: Path, group: str = "/", top: str = "/", folder: str = "/sys/fs/cgroup") -> Kernel:
    return Kernel(root, f"0::{group}\n", V2_MOUNTS.format(top=top, folder=folder))


def v1(root: Path, group: str = "/", top: str = "/") -> Kernel:
    text = f"9:name=systemd:/\n4:cpuset:/elsewhere\n3:cpu,cpuacct:{group}\n0::/unified\n"
    return Kernel(root, text, V1_MOUNTS.format(top=top))


@pytest.mark.parametrize(
    ("text", "count"),
    [("250000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", 8), ("nonsense", 8), ("", 8),
     ("900000 100000", 8), ("100000 0", 8)],
)  # fmt: skip
def test_a_container_with_a_quota_of_version_2(text: str, count: int, tmp_path: Path) -> None:
    v2(tmp_path).group("", max=text)
    assert available_cores(tmp_path) == count


@pytest.mark.parametrize(
    ("time", "period", "count"), [("-1", "100000", 8), ("200000", "100000", 2), ("10000", "100000", 1)]
)
def test_a_container_with_a_quota_of_version_1(time: str, period: str, count: int, tmp_path: Path) -> None:
    v1(tmp_path).group("cpu,cpuacct", cfs_quota_us=time, cfs_period_us=period)
    assert available_cores(tmp_path) == count


@pytest.mark.parametrize("limited", ["kube", "kube/pod", "kube/pod/container"])
def test_the_tightest_of_nested_groups_counts(limited: str, tmp_path: Path) -> None:
    for name in ("two", "one"):
        kernel = (v2 if name == "two" else v1)(tmp_path / name, "/kube/pod/container")
        top = "" if name == "two" else "cpu,cpuacct/"
        for path in ("kube", "kube/pod", "kube/pod/container"):
            quota = "300000" if path == limited else "600000"
            if name == "two":
                kernel.group(path, max=f"{quota} 100000")
            else:
                kernel.group(top + path, cfs_quota_us=quota, cfs_period_us="100000")
        assert available_cores(tmp_path / name) == 3


def test_a_container_of_version_1_that_sees_its_own_group_as_the_top(tmp_path: Path) -> None:
    v1(tmp_path, "/docker/abc", "/docker/abc").group("cpu,cpuacct", cfs_quota_us="100000", cfs_period_us="100000")
    assert available_cores(tmp_path) == 1


def test_a_group_that_is_shown_from_outside_of_a_namespace_counts_as_the_top(tmp_path: Path) -> None:
    v2(tmp_path, "/../../elsewhere").group("", max="200000 100000")
    assert available_cores(tmp_path) == 2


def test_the_hybrid_of_both_versions_takes_the_tighter(tmp_path: Path) -> None:
    kernel = v1(tmp_path)
    with (tmp_path / "proc/self/mountinfo").open("a") as file:
        file.write(V2_MOUNTS.format(top="/", folder=r"/sys/fs/cgroup/uni\040fied"))
    kernel.group("cpu,cpuacct", cfs_quota_us="400000", cfs_period_us="100000")
    kernel.group("uni fied/unified", max="200000 100000")
    assert available_cores(tmp_path) == 2


def test_an_affinity_mask_bounds_the_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    v2(tmp_path).group("", max="400000 100000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5}, raising=False)
    assert available_cores(tmp_path) == 1


def test_without_any_of_the_files_the_cores_are_the_machines(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == 8
    Kernel(tmp_path / "odd", "nonsense\n::\n", "nonsense\n - \n1 2 3 - cgroup2\n")
    assert available_cores(tmp_path / "odd") == 8
