"""Tests of the plan volume: the plans that are served from it."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from plan_volumes import write_plan

from models.artifact import ArtifactError, Manifest
from models.plan_manifest import ShapeProfile
from server.restore.artifact_watcher import successor
from server.settings import Settings


def test_a_plan_is_kept_by_device_and_version(volume: ModuleType, hopper: Any) -> None:
    assert hopper.key == Path("nvidia-h100-80gb-hbm3-sm9.0/tensorrt-11.4.0")
    other = volume.Runtime("tensorrt", "11.4.0", "NVIDIA L40S", "8.9")
    newer = volume.Runtime("tensorrt", "11.5.0", "NVIDIA H100 80GB HBM3", "9.0")
    assert len({hopper.key, other.key, newer.key}) == 3


def test_plans_that_run_everywhere_are_kept_once(volume: ModuleType) -> None:
    cards = [volume.Runtime("tensorrt_rtx", "1.7", name, "8.9") for name in ("RTX 4090", "L40S")]
    assert {card.key for card in cards} == {Path("portable/tensorrt-rtx-1.7")}


def test_the_plan_of_this_gpu_is_served(volume: ModuleType, hopper: Any, artifact: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plans" / hopper.key / "promptnaf"
    write_plan(folder)
    volume.find_runtime = lambda: hopper
    assert volume.serving(tmp_path / "plans", [artifact], {}) == {
        "PROMPTIR_BACKEND": "tensorrt",
        "PROMPTIR_ARTIFACT": str(folder),
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"compute_capability": "8.9"},
        {"tensorrt_version": "11.3.0"},
        {"flavour": "tensorrt_rtx"},
        {"sha256": "3" * 64},
        {"weights_sha256": "4" * 64},
        {"parity": (), "parity_unmeasured": "there were no weights"},
        {"profiles": (ShapeProfile(min=(1, 8, 8), opt=(1, 64, 64), max=(1, 2040, 2048)),)},
    ],
    ids=["another GPU", "another version", "another library", "damaged", "other weights", "not verified", "too small"],
)
def test_a_plan_that_does_not_fit_leaves_the_server_on_pytorch(
    volume: ModuleType, hopper: Any, artifact: Path, tmp_path: Path, changed: dict[str, Any]
) -> None:
    folder = tmp_path / "plans" / hopper.key / "promptnaf"
    common = changed.pop("weights_sha256", None)
    manifest = write_plan(folder, **changed)
    if common:
        manifest.model_copy(update={"weights_sha256": common}).save(folder)
    volume.find_runtime = lambda: hopper
    expected = {
        "PROMPTIR_BACKEND": "pytorch",
        "PROMPTIR_DEVICES": "cuda:0",
        "PROMPTIR_TORCH_PRECISION": "fp16",
        "PROMPTIR_SUCCESSOR": str(folder),  # another one may come
    }
    assert volume.serving(tmp_path / "plans", [artifact], {}) == expected


def test_an_empty_volume_or_no_tensorrt_leaves_the_server_on_pytorch(
    volume: ModuleType, hopper: Any, artifact: Path, tmp_path: Path
) -> None:
    for runtime in (hopper, None):
        volume.find_runtime = lambda found=runtime: found
        chosen = volume.serving(tmp_path, [artifact], {})
        assert chosen["PROMPTIR_BACKEND"] == "pytorch"
        # the folder that the export fills, or nothing to wait for
        assert ("PROMPTIR_SUCCESSOR" in chosen) == (runtime is not None)


@pytest.mark.parametrize("changed", [{}, {"weights_sha256": "9" * 64}])
def test_the_server_waits_for_the_very_plan_that_the_export_leaves(
    volume: ModuleType, hopper: Any, artifact: Path, tmp_path: Path, changed: dict[str, str]
) -> None:
    volume.find_runtime = lambda: hopper
    chosen = volume.serving(tmp_path, [artifact], {})
    given = {name.removeprefix("PROMPTIR_").lower(): value for name, value in chosen.items()}
    present = Settings.from_environment(given | {"artifact": artifact}).backend
    plan = write_plan(Path(chosen["PROMPTIR_SUCCESSOR"]))
    (folder,) = present.successor
    plan.model_copy(update=changed).save(folder)
    if changed:
        with pytest.raises(ArtifactError, match="not made from the weights"):
            successor(folder, present)
        return
    assert volume.usable_plan(tmp_path, hopper, Manifest.load(artifact)) == folder
    _, better = successor(folder, present)
    assert better.backend == "tensorrt"


def test_of_several_artifacts_each_waits_for_its_plan(
    volume: ModuleType, hopper: Any, artifact: Path, tmp_path: Path
) -> None:
    volume.find_runtime = lambda: hopper
    other = tmp_path / "other"
    other.mkdir()
    Manifest.load(artifact).model_copy(update={"variant": "promptir-tiny"}).save(other)
    (other / "weights.safetensors").touch()
    chosen = volume.serving(tmp_path, [artifact, other], {})
    assert chosen["PROMPTIR_BACKEND"] == "pytorch"
    folders = [Path(folder) for folder in chosen["PROMPTIR_SUCCESSOR"].split(",")]
    assert [folder.name for folder in folders] == [Manifest.load(artifact).variant, "promptir-tiny"]


def test_an_artifact_without_weights_is_served_by_onnx_runtime_meanwhile(
    volume: ModuleType, artifact: Path, tmp_path: Path
) -> None:
    volume.find_runtime = lambda: None
    (artifact / "weights.safetensors").unlink()
    expected = {"PROMPTIR_BACKEND": "onnx", "PROMPTIR_ONNX_PROVIDERS": "cuda"}
    assert volume.serving(tmp_path, [artifact], {}) == expected


def test_a_device_and_a_precision_that_the_user_sets_are_kept(
    volume: ModuleType, artifact: Path, tmp_path: Path
) -> None:
    volume.find_runtime = lambda: None
    given = {"PROMPTIR_DEVICES": "cuda:0,cuda:1", "PROMPTIR_TORCH_PRECISION": "bf16"}
    assert volume.serving(tmp_path, [artifact], given) == {"PROMPTIR_BACKEND": "pytorch", **given}


def test_a_backend_that_the_user_names_is_not_overruled(volume: ModuleType, artifact: Path, tmp_path: Path) -> None:
    assert volume.serving(tmp_path, [artifact], {"PROMPTIR_BACKEND": "pytorch"}) == {}


def test_serving_takes_the_place_of_the_process(
    volume: ModuleType, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    volume.find_runtime = lambda: None
    monkeypatch.setenv("PROMPTIR_ARTIFACT", str(artifact))
    monkeypatch.delenv("PROMPTIR_BACKEND", raising=False)
    monkeypatch.setattr(volume.os, "execvpe", lambda *asked: started.append(asked))
    volume.main(["--plans", str(tmp_path), "serve", "--max-batch", "4"])
    ((file, arguments, environment),) = started
    assert (file, arguments) == ("promptir", ["promptir", "serve", "--max-batch", "4"])
    assert environment["PROMPTIR_TORCH_PRECISION"] == "fp16"


def test_the_installed_tensorrt_is_found(volume: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", SimpleNamespace(__version__="1.7.1"))
    volume.find_device = lambda: None
    assert volume.find_runtime() == volume.Runtime("tensorrt_rtx", "1.7.1")
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="11.4.0"))
    volume.find_device = lambda: SimpleNamespace(name="NVIDIA L40S", compute_capability="8.9")
    assert volume.find_runtime() == volume.Runtime("tensorrt", "11.4.0", "NVIDIA L40S", "8.9")
