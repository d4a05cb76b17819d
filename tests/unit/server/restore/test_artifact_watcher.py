"""Tests of what takes the place of an artifact, and when."""

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from models.artifact import ArtifactError, Manifest, Parity
from models.plan_manifest import PLAN_FILE, BuildOptions, PlanManifest, ShapeProfile
from server.backends.base import BackendInfo, ModelSpec
from server.backends.onnx_runtime import OnnxSettings
from server.backends.settings import RuntimeSettings
from server.errors import BackendUnavailable
from server.metrics import Metrics
from server.restore.artifact_watcher import MOST_TRIES, ArtifactWatcher, successor
from server.settings import BackendSettings, Settings

WEIGHTS = "1" * 64
MEASURED = (Parity(shape=(1, 3, 64, 64), max_abs_error=1e-4, psnr_db=80.0),)


def facts(**changed: object) -> dict[str, Any]:
    return {
        "name": "promptir",
        "variant": "promptnaf",
        "input_name": "image",
        "output_name": "restored",
        "size_multiple": 8,
        "precision": "fp32",
        "opset": 17,
        "sha256": "0" * 64,
        "weights_sha256": WEIGHTS,
        "parameters": 1,
        "parity": MEASURED,
        "exporter": {},
    } | changed


def onnx(folder: Path, **changed: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Manifest(**facts(**changed)).save(folder)
    return folder


def plan(folder: Path, **changed: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN_FILE).write_bytes(b"a plan")
    bound = {
        "precision": "mixed",
        "flavour": "tensorrt",
        "tensorrt_version": "11.4.0",
        "profiles": (ShapeProfile(min=(1, 8, 8), opt=(1, 64, 64), max=(1, 128, 128)),),
        "options": BuildOptions(),
        "layer_types": {},
        "onnx_sha256": "2" * 64,
        "onnx_parity": (),
    }
    PlanManifest(**facts(**bound | changed)).save(folder)
    return folder


@pytest.fixture
def present(tmp_path: Path) -> BackendSettings:
    given = {"artifact": onnx(tmp_path / "present"), "onnx_providers": "cuda", "threads": 3}
    return Settings.from_environment(given).backend


def test_a_plan_is_served_by_tensorrt_on_the_same_devices(tmp_path: Path, present: BackendSettings) -> None:
    model, better = successor(plan(tmp_path / "plan"), present)
    assert (better.backend, better.artifact, better.devices) == ("tensorrt", tmp_path / "plan", ("cuda:0",))
    assert model == "promptir"
    assert better.threads == 3


def test_an_onnx_artifact_is_served_as_the_present_one_is(tmp_path: Path, present: BackendSettings) -> None:
    _, better = successor(onnx(tmp_path / "better"), present)
    assert isinstance(better, OnnxSettings)
    assert (better.backend, better.onnx_providers, better.devices) == ("onnx", ("cuda",), ("cuda:0",))


def test_of_several_models_the_one_of_the_same_weights_is_replaced(tmp_path: Path) -> None:
    first = onnx(tmp_path / "first", name="first", weights_sha256="3" * 64)
    second = onnx(tmp_path / "second", name="second")
    third = onnx(tmp_path / "third", name="third")
    given = {"artifact": f"{first},{second},{third}", "onnx_providers": "cuda", "cache_folder": tmp_path / "cache"}
    present = Settings.from_environment(given).backend
    model, better = successor(plan(tmp_path / "plan", name="unknown"), present)
    assert (model, better.artifact) == ("second", tmp_path / "plan")
    assert better.device_cache_bytes == present.device_cache_bytes // 3  # the models share it still
    assert better.cache_folder == tmp_path / "cache" / "second"
    model, _ = successor(plan(tmp_path / "other plan", name="third"), present)
    assert model == "third"
    with pytest.raises(ArtifactError, match="not made from the weights"):
        successor(plan(tmp_path / "foreign", weights_sha256="4" * 64), present)


def test_a_plan_takes_the_place_of_the_weights_that_pytorch_serves(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    given = {"backend": "pytorch", "artifact": weights, "devices": "cuda:0", "torch_precision": "fp16"}
    _, found = successor(
        plan(tmp_path / "plan", weights_sha256=hashlib.sha256(b"weights").hexdigest()),
        Settings.from_environment(given).backend,
    )
    assert found.backend == "tensorrt"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"parity": (), "parity_unmeasured": "built without a GPU"}, "is not verified"),
        ({"weights_sha256": "3" * 64}, "not made from the weights that are served"),
        ({"weights_sha256": None}, "not made from the weights that are served"),
    ],
)
def test_what_is_not_verified_or_of_other_weights_is_not_served(
    changed: dict[str, object], words: str, tmp_path: Path, present: BackendSettings
) -> None:
    with pytest.raises(ArtifactError, match=words):
        successor(plan(tmp_path / "plan", **changed), present)


def test_what_the_devices_cannot_run_is_not_served(tmp_path: Path) -> None:
    on_cpu = Settings.from_environment({"artifact": onnx(tmp_path / "present")}).backend
    with pytest.raises(ArtifactError, match=r"cannot be served: PROMPTIR_DEVICES=cpu: the devices of .* cuda:N$"):
        successor(plan(tmp_path / "plan"), on_cpu)


class Replacing:
    """In the place of the restorer: notes what it is asked to serve, and can or cannot."""

    def __init__(self) -> None:
        self.asked: list[RuntimeSettings] = []
        self.error: BackendUnavailable | None = None

    async def __call__(self, model: str, better: RuntimeSettings) -> BackendInfo:
        self.asked.append(better)
        if self.error is not None:
            raise self.error
        return BackendInfo(ModelSpec("plan", "mixed", 8), "tensorrt", "cuda:0", 4)


@pytest.fixture
def replacing() -> Replacing:
    return Replacing()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def looked(
    tmp_path: Path, present: BackendSettings, replacing: Replacing, registry: CollectorRegistry
) -> Callable[[], tuple[float, float]]:
    """Look once; how many swaps were done and how many failed by then."""
    watcher = ArtifactWatcher(tmp_path / "plan", present, replacing, Metrics(registry))

    def look() -> tuple[float, float]:
        asyncio.run(watcher.look())
        done, failed = (
            registry.get_sample_value("promptir_artifact_swaps_total", {"result": result}) or 0.0
            for result in ("done", "failed")
        )
        return done, failed

    return look


def test_nothing_happens_until_there_is_something_and_then_once(
    looked: Callable[[], tuple[float, float]], replacing: Replacing, tmp_path: Path
) -> None:
    assert looked() == (0, 0)
    plan(tmp_path / "plan")
    assert [looked() for _ in range(3)] == [(1, 0)] * 3
    assert len(replacing.asked) == 1
    plan(tmp_path / "plan", name="a newer one")
    assert looked() == (2, 0)


def test_a_device_that_cannot_is_asked_again_a_few_times_and_then_only_for_another_artifact(
    looked: Callable[[], tuple[float, float]], replacing: Replacing, tmp_path: Path
) -> None:
    plan(tmp_path / "plan")
    replacing.error = BackendUnavailable("cuda:0 is lost")
    assert looked() == (0, 1)
    replacing.error = None
    assert looked() == (1, 1)
    replacing.error = BackendUnavailable("the plan is broken")
    plan(tmp_path / "plan", name="broken")
    for _ in range(2 * MOST_TRIES):
        looked()
    assert looked() == (1, 1 + MOST_TRIES)
    replacing.error = None
    plan(tmp_path / "plan", name="mended")
    assert looked() == (2, 1 + MOST_TRIES)


def test_a_manifest_that_cannot_be_read_is_no_reason_to_stop_looking(
    looked: Callable[[], tuple[float, float]], tmp_path: Path
) -> None:
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "manifest.json").write_text("{")
    assert looked() == (0, 1)
    plan(tmp_path / "plan")
    assert looked() == (1, 1)


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "huge", "nested"])
def test_a_manifest_that_is_no_file_or_has_no_end_is_refused_like_any_other(
    looked: Callable[[], tuple[float, float]], tmp_path: Path, kind: str
) -> None:
    (tmp_path / "plan").mkdir()
    manifest = tmp_path / "plan" / "manifest.json"
    if kind == "pipe":
        os.mkfifo(manifest)
    elif kind == "endless":
        manifest.symlink_to("/dev/zero")
    elif kind == "folder":
        manifest.mkdir()
    elif kind == "huge":
        manifest.touch()
        os.truncate(manifest, 1 << 40)
    else:
        manifest.write_text("[" * 200_000)
    for tries in range(1, MOST_TRIES + 2):
        assert looked() == (0, min(tries, MOST_TRIES))
