"""Tests of the automatic choice of a backend, on machines with and without a GPU, as their driver describes them."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import server
from models.artifact import DEFAULT_ARTIFACT, MODEL_FILE, Manifest, Parity
from models.nvidia_gpu import Device
from models.plan_manifest import PLAN_FILE, PlanManifest
from server.backends import auto
from server.errors import BackendUnavailable
from server.settings import BackendSettings, Settings, SettingsError

PROJECT = Path(server.__file__).parents[1]
HOPPER = Device("NVIDIA H100", "9.0", "CUDA 13.0")
WEIGHTS = "weights.safetensors"
PLAN = b"a plan"


def hopper() -> Device:
    return HOPPER


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """An artifact folder with a model and weights; only their presence matters."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    for name in ("manifest.json", MODEL_FILE):
        shutil.copy(DEFAULT_ARTIFACT / name, folder / name)
    (folder / WEIGHTS).write_bytes(b"")
    return folder


@pytest.fixture
def torch_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "import_torch", lambda: None)
    monkeypatch.setattr(auto, "check_cuda", lambda torch, index: None)


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "find_spec", lambda name: None)


@pytest.fixture
def onnx_on_cuda(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    library = SimpleNamespace(get_available_providers=lambda: ["CUDAExecutionProvider"], cuda_version="13.0")
    monkeypatch.setattr(auto.metadata, "distribution", lambda name: name)
    monkeypatch.setattr(auto, "import_onnxruntime", lambda: library)
    return library


@pytest.fixture
def plan(
    artifact: Path, tmp_path: Path, plan_manifest: Callable[..., PlanManifest], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Write a plan for the artifact; keywords change its manifest."""
    library = SimpleNamespace(__name__="tensorrt", __version__="11.4.0")
    monkeypatch.setattr(auto, "import_tensorrt", lambda: library)

    def make(**changed: object) -> Path:
        folder = tmp_path / "plan"
        folder.mkdir()
        (folder / PLAN_FILE).write_bytes(PLAN)
        facts: dict[str, Any] = {
            "flavour": "tensorrt",
            "tensorrt_version": "11.4.0",
            "device": HOPPER.name,
            "compute_capability": HOPPER.compute_capability,
            "sha256": hashlib.sha256(PLAN).hexdigest(),
            "weights_sha256": Manifest.load(artifact).weights_sha256,
            "parity": (Parity(shape=(1, 3, 64, 64), max_abs_error=1e-3, psnr_db=70.0),),
            "parity_unmeasured": None,
        }
        plan_manifest(**(facts | changed)).save(folder)
        return folder

    return make


def test_without_a_gpu_it_is_the_cpu_and_no_runtime_is_imported_to_find_out() -> None:
    choice = auto.choose({}, lambda: None)
    assert (choice.backend, dict(choice.settings), choice.rejected) == ("onnx", {}, ())
    assert "no NVIDIA GPU or driver" in choice.sentence
    program = (
        "from server.backends import auto; auto.choose({}, lambda: None)\n"
        "import sys; print({'torch', 'onnxruntime', 'tensorrt', 'tensorrt_rtx'} & set(sys.modules))"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "set()"


@pytest.mark.usefixtures("torch_on_cuda", "onnx_on_cuda")
def test_a_verified_plan_for_this_gpu_comes_first(artifact: Path, plan: Callable[..., Path]) -> None:
    folder = plan()
    choice = auto.choose({"artifact": artifact, "successor": str(folder)}, hopper)
    assert (choice.backend, dict(choice.settings)) == ("tensorrt", {"artifact": (folder,)})


@pytest.mark.usefixtures("torch_on_cuda")
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"parity": (), "parity_unmeasured": "no GPU"}, "is not verified: no GPU"),
        ({"compute_capability": "8.9"}, "cannot run on compute capability 9.0"),
        ({"tensorrt_version": "10.13.0"}, "cannot be read by version 11.4.0"),
        ({"weights_sha256": "4" * 64}, "not made from the weights of the artifact"),
        ({"sha256": "5" * 64}, "sha256"),
    ],
)
def test_a_plan_that_does_not_fit_is_passed_over_with_its_reason(
    artifact: Path, plan: Callable[..., Path], changed: dict[str, Any], reason: str
) -> None:
    choice = auto.choose({"artifact": artifact, "successor": plan(**changed)}, hopper)
    assert choice.backend == "pytorch"
    (rejected,) = choice.rejected
    assert rejected.startswith("tensorrt: ")
    assert reason in rejected


@pytest.mark.usefixtures("torch_on_cuda", "onnx_on_cuda")
def test_torch_on_cuda_serves_in_half_precision_unless_told_otherwise(artifact: Path) -> None:
    choice = auto.choose({"artifact": str(artifact)}, hopper)
    assert (choice.backend, dict(choice.settings)) == (
        "pytorch",
        {"devices": ("cuda:0",), "torch_precision": "fp16"},
    )
    choice = auto.choose({"artifact": artifact, "devices": "cuda:1,cuda:0", "torch_precision": "bf16"}, hopper)
    assert (choice.backend, dict(choice.settings)) == ("pytorch", {})


@pytest.mark.usefixtures("no_torch", "onnx_on_cuda")
def test_without_torch_it_is_onnx_runtime_on_cuda(artifact: Path) -> None:
    choice = auto.choose({"artifact": artifact}, hopper)
    assert (choice.backend, dict(choice.settings)) == ("onnx", {"onnx_providers": ("cuda",)})
    assert "pytorch: torch is not installed" in choice.rejected


@pytest.mark.usefixtures("no_torch")
def test_a_driver_that_is_too_old_for_onnx_runtime_leaves_the_cpu(
    artifact: Path, onnx_on_cuda: SimpleNamespace
) -> None:
    choice = auto.choose({"artifact": artifact}, lambda: Device("NVIDIA L4", "8.9", "CUDA 12.4"))
    assert (choice.backend, dict(choice.settings)) == ("onnx", {})
    assert "needs a driver for CUDA 13, and the driver supports CUDA 12.4" in choice.sentence


def test_what_torch_lacks_is_said(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_cuda(torch: object, index: int) -> None:
        raise BackendUnavailable("the installed torch has no CUDA")

    monkeypatch.setattr(auto, "import_torch", lambda: None)
    monkeypatch.setattr(auto, "check_cuda", check_cuda)
    choice = auto.choose({"artifact": artifact}, hopper)
    assert "pytorch: the installed torch has no CUDA" in choice.rejected
    (artifact / WEIGHTS).unlink()
    assert f"pytorch: an artifact has no {WEIGHTS}" in auto.choose({"artifact": artifact}, hopper).rejected


@pytest.mark.parametrize(
    ("given", "backend"), [({"devices": "cpu"}, "onnx"), ({"onnx_providers": "cuda,cpu"}, "onnx"), ({}, "pytorch")]
)
@pytest.mark.usefixtures("torch_on_cuda")
def test_settings_that_leave_one_possibility_decide(artifact: Path, given: dict[str, str], backend: str) -> None:
    assert auto.choose({"artifact": artifact, **given}, hopper).backend == backend


def test_an_artifact_that_is_a_plan_is_served_as_one_also_where_that_will_fail(plan: Callable[..., Path]) -> None:
    assert auto.choose({"artifact": plan()}, lambda: None).backend == "tensorrt"


def test_the_settings_hold_the_backend_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BackendSettings(backend="onnx").choice is None
    monkeypatch.setattr(
        "server.settings.backend.choose",
        lambda given: auto.Choice("pytorch", "of the test", {"devices": ("cuda:0",), "torch_precision": "fp16"}),
    )
    for found in (BackendSettings(), Settings().backend, Settings.from_environment({"backend": "auto"}).backend):
        assert (found.backend, found.device_names, found.torch_precision) == ("pytorch", ("cuda:0",), "fp16")
        assert found.choice is not None
    with pytest.raises(SettingsError, match="SIMULATED_BASE_MS is of the backend simulated"):
        Settings.from_environment({"simulated_base_ms": "3"})
