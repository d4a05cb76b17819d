"""Tests of the plan volume: the plans built into it and served from it."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from export.profiles import DEFAULT_PROFILES
from models.artifact import ArtifactError, Manifest, Parity
from models.plan_manifest import PLAN_FILE, BuildOptions, PlanManifest, ShapeProfile
from server.restore.artifact_watcher import successor
from server.settings import Settings

Script = Callable[[str], ModuleType]
PLAN = b"a plan"
ARTIFACT = Manifest(
    name="shipped",
    variant="promptnaf",
    input_name="image",
    output_name="restored",
    size_multiple=8,
    precision="fp32",
    opset=17,
    sha256="0" * 64,
    weights_sha256="1" * 64,
    parameters=1,
    parity=(),
    exporter={},
)


@pytest.fixture
def volume(script: Script) -> ModuleType:
    return script("plan_volume")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    folder.mkdir()
    ARTIFACT.save(folder)
    (folder / "weights.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def hopper(volume: ModuleType) -> Any:
    return volume.Runtime("tensorrt", "11.4.0", "NVIDIA H100 80GB HBM3", "9.0")


def write_plan(folder: Path, **changed: object) -> PlanManifest:
    facts = {
        "name": folder.name,
        "variant": "promptnaf",
        "precision": "mixed",
        "sha256": hashlib.sha256(PLAN).hexdigest(),
        "flavour": "tensorrt",
        "tensorrt_version": "11.4.0",
        "device": "NVIDIA H100 80GB HBM3",
        "compute_capability": "9.0",
        "profiles": DEFAULT_PROFILES,
        "options": BuildOptions(),
        "layer_types": {"CONVOLUTION": {"HALF": 1}},
        "onnx_sha256": "2" * 64,
        "onnx_parity": (),
        "parity": (Parity(shape=(1, 3, 64, 64), max_abs_error=1e-3, psnr_db=70.0),),
    }
    common = ARTIFACT.model_dump(exclude={"name", "variant", "precision", "sha256", "parity"})
    manifest = PlanManifest(**common, **(facts | changed))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN_FILE).write_bytes(PLAN)
    manifest.save(folder)
    return manifest


def exporting(steps: list[list[str]], **changed: object) -> SimpleNamespace:
    """Replace `subprocess`: records each step; a step that builds a plan writes one."""

    def run(step: list[str], check: bool) -> SimpleNamespace:
        steps.append(step)
        if step[1] == "tensorrt":
            write_plan(Path(step[step.index("--output") + 1]), **changed)
        return SimpleNamespace(returncode=0)

    return SimpleNamespace(run=run)


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
        {"parity": (), "parity_unmeasured": "no weights were at hand"},
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
    write_plan(folder, parity=(), parity_unmeasured="no weights were at hand")
    volume.find_runtime = lambda: hopper
    volume.subprocess = exporting(steps)
    assert volume.export(tmp_path, artifact, []) == 0
    assert len(steps) == 2
    assert f"{folder} is not verified: no weights were at hand" in capsys.readouterr().err


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


def test_an_artifact_that_is_missing_is_one_sentence(
    volume: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    volume.find_runtime = lambda: volume.Runtime("tensorrt", "11.4.0")
    monkeypatch.setenv("PROMPTIR_ARTIFACT", str(tmp_path / "nothing"))
    assert volume.main(["--plans", str(tmp_path), "export"]) == 1
    assert capsys.readouterr().err.startswith("plan_volume: ")


def test_the_installed_tensorrt_is_found(volume: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", SimpleNamespace(__version__="1.7.1"))
    volume.find_device = lambda: None
    assert volume.find_runtime() == volume.Runtime("tensorrt_rtx", "1.7.1")
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="11.4.0"))
    volume.find_device = lambda: SimpleNamespace(name="NVIDIA L40S", compute_capability="8.9")
    assert volume.find_runtime() == volume.Runtime("tensorrt", "11.4.0", "NVIDIA L40S", "8.9")
