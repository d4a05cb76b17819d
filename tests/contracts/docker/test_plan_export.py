"""Tests of the plan volume: the plans that are built into it."""

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from plan_volumes import exporting, write_plan


def test_the_export_makes_the_mixed_onnx_file_and_then_the_plan(
    volume: ModuleType, hopper: Any, artifact: Path, tmp_path: Path
) -> None:
    steps: list[list[str]] = []
    volume.find_runtime = lambda: hopper
    volume.subprocess = exporting(steps)
    assert volume.export(tmp_path, artifact, ["1x64x64:1x64x64:1x64x64"]) == 0
    onnx, plan = steps
    assert onnx[:2] == ["promptir-export", "onnx"]
    assert onnx[onnx.index("--precision") + 1] == "mixed"
    assert plan[:2] == ["promptir-export", "tensorrt"]
    assert plan[plan.index("--onnx") + 1] == onnx[onnx.index("--output") + 1]
    assert plan[plan.index("--output") + 1] == str(tmp_path / hopper.key / "promptnaf")
    # the mixed folder has no weights, and without them nothing is measured
    assert plan[plan.index("--weights") + 1] == onnx[onnx.index("--weights") + 1]
    assert plan[-2:] == ["--profile", "1x64x64:1x64x64:1x64x64"]


def test_a_step_that_fails_ends_the_export_with_its_code(
    volume: ModuleType, hopper: Any, artifact: Path, tmp_path: Path
) -> None:
    steps: list[list[str]] = []
    volume.find_runtime = lambda: hopper
    volume.subprocess = SimpleNamespace(run=lambda step, check: steps.append(step) or SimpleNamespace(returncode=3))
    assert volume.export(tmp_path, artifact, []) == 3
    assert len(steps) == 1


def test_a_plan_that_is_there_is_not_built_again(
    volume: ModuleType, hopper: Any, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plan(tmp_path / hopper.key / "promptnaf")
    volume.find_runtime = lambda: hopper
    volume.subprocess = None  # nothing may be run
    assert volume.export(tmp_path, artifact, []) == 0
    assert "already exists" in capsys.readouterr().out


def test_a_plan_that_nobody_has_measured_is_named_and_built_again(
    volume: ModuleType, hopper: Any, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[list[str]] = []
    folder = tmp_path / hopper.key / "promptnaf"
    write_plan(folder, parity=(), parity_unmeasured="there were no weights")
    volume.find_runtime = lambda: hopper
    volume.subprocess = exporting(steps)
    assert volume.export(tmp_path, artifact, []) == 0
    assert len(steps) == 2
    assert f"{folder} is not verified: there were no weights" in capsys.readouterr().err


def test_an_export_whose_plan_could_not_be_measured_fails(
    volume: ModuleType, hopper: Any, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume.find_runtime = lambda: hopper
    volume.subprocess = exporting([], parity=(), parity_unmeasured="torch cannot use the NVIDIA H100")
    assert volume.export(tmp_path, artifact, []) == 1
    assert "is not verified: torch cannot use the NVIDIA H100" in capsys.readouterr().err


def test_without_a_gpu_nothing_is_built_and_no_plan_is_served(
    volume: ModuleType, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    portable = volume.Runtime("tensorrt_rtx", "1.7.1")
    unbound = {"device": "portable", "compute_capability": None}
    write_plan(tmp_path / portable.key / "promptnaf", flavour="tensorrt_rtx", tensorrt_version="1.7.1", **unbound)
    volume.find_runtime = lambda: portable
    volume.subprocess = None  # nothing may be run
    assert volume.export(tmp_path, artifact, []) == 1
    assert "no GPU to measure the plan" in capsys.readouterr().err
    assert volume.serving(tmp_path, [artifact], {})["PROMPTIR_BACKEND"] == "pytorch"
    volume.find_runtime = lambda: volume.Runtime("tensorrt_rtx", "1.7.1", "NVIDIA L40S", "8.9")
    assert volume.serving(tmp_path, [artifact], {})["PROMPTIR_BACKEND"] == "tensorrt"


def test_an_artifact_that_is_missing_is_one_sentence(
    volume: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    volume.find_runtime = lambda: volume.Runtime("tensorrt", "11.4.0")
    monkeypatch.setenv("PROMPTIR_ARTIFACT", str(tmp_path / "nothing"))
    assert volume.main(["--plans", str(tmp_path), "export"]) == 1
    assert capsys.readouterr().err.startswith("plan_volume: ")
