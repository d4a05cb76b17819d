"""Tests of a plan's parity, with an execution context that runs the ONNX file on the CPU instead."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from export import plan_model
from export.plan_model import PlanModel, PlanRunError, open_plan
from export.plan_parity import NO_WEIGHTS, find_weights, with_parity
from export.shapes import VERIFICATION_MIXES, extent_of, shapes_within
from export.to_onnx import export_onnx
from export.verify import Candidate, ParityError, open_artifact, open_onnx
from models.artifact import MODEL_FILE, ArtifactError, Manifest, sha256_of
from models.nvidia_gpu import Device
from models.plan_manifest import PLAN_FILE, PlanManifest, ShapeOutsideProfiles, ShapeProfile
from models.tensorrt_faults import NO_USABLE_DEVICE

PROFILES = (
    ShapeProfile(min=(1, 8, 8), opt=(2, 32, 40), max=(3, 64, 72)),
    ShapeProfile(min=(1, 64, 64), opt=(1, 96, 96), max=(1, 128, 128)),
)


class OnnxContext:
    """Execution context whose engine is an ONNX session; `shift` is added to its outputs."""

    def __init__(self, model: Path) -> None:
        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.addresses: dict[str, int] = {}
        self.profiles: list[int] = []
        self.shift = 0.0
        self.works = True

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profiles.append(index)
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if name != "image":
            return shape == self.shape[:1]
        self.shape = shape
        return PROFILES[self.profiles[-1]].holds(extent_of(shape))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if self.works:
            sides = [name for name in ("height", "width") if name in self.addresses]
            inputs = {"image": self._floats("image", self.shape), **{name: self._integers(name) for name in sides}}
            restored, weights = self.session.run(None, inputs)
            self._floats("restored", self.shape)[:] = restored + self.shift
            self._floats("prompt_weights", weights.shape)[:] = weights
        return self.works

    def _floats(self, name: str, shape: tuple[int, ...]) -> Any:
        pointer = ctypes.cast(self.addresses[name], ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, shape)

    def _integers(self, name: str) -> Any:
        pointer = ctypes.cast(self.addresses[name], ctypes.POINTER(ctypes.c_int64))
        return np.ctypeslib.as_array(pointer, self.shape[:1])


@pytest.fixture
def context(mixed_artifact: Path) -> OnnxContext:
    return OnnxContext(mixed_artifact / MODEL_FILE)


@pytest.fixture
def plan(mixed_artifact: Path, tmp_path: Path) -> PlanManifest:
    """Write a plan folder with an unreadable plan at `tmp_path`; returns its manifest."""
    return plan_of(mixed_artifact, tmp_path)


def plan_of(artifact: Path, folder: Path) -> PlanManifest:
    (folder / PLAN_FILE).write_bytes(b"no plan")
    source = Manifest.load(artifact)
    manifest = PlanManifest(
        **source.model_dump(exclude={"parity", "sha256"}),
        sha256=sha256_of(folder / PLAN_FILE),
        parity=(),
        parity_unmeasured="not yet",
        flavour="tensorrt_rtx",
        tensorrt_version="1.7.1.116",
        profiles=PROFILES,
        options={},
        layer_types={},
        onnx_sha256=source.sha256,
        onnx_parity=source.parity,
    )
    manifest.save(folder)
    return manifest


@pytest.fixture
def opened(context: OnnxContext) -> Callable[[Path, PlanManifest], Candidate]:
    return lambda _, manifest: PlanModel(manifest, context, torch.device("cpu"))


def test_a_plan_is_measured_at_shapes_that_its_profiles_take() -> None:
    shapes = shapes_within(PROFILES)
    assert {(1, 3, 8, 8), (2, 3, 32, 40), (1, 3, 64, 64), (1, 3, 96, 96)} <= set(shapes)
    assert len(shapes) == len(set(shapes))
    assert all(any(profile.holds(extent_of(shape)) for profile in PROFILES) for shape in shapes)
    assert (1, 3, 72, 200) not in shapes


def test_each_run_answers_for_its_own_pixels_on_the_profile_of_its_shape(
    plan: PlanManifest, context: OnnxContext, mixed_artifact: Path
) -> None:
    model, reference = PlanModel(plan, context, torch.device("cpu")), open_onnx(mixed_artifact / MODEL_FILE)
    for seed, shape in enumerate([(2, 3, 32, 40), (1, 3, 104, 96), (3, 3, 8, 16)]):
        batch = np.random.default_rng(seed).random(shape, np.float32)
        for found, expected in zip(model(batch), reference(batch), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert context.profiles == [0, 1, 0]
    with pytest.raises(ShapeOutsideProfiles):
        model(np.zeros((2, 3, 128, 128), np.float32))


def test_a_run_that_tensorrt_refuses_is_an_error_with_its_words(plan: PlanManifest, context: OnnxContext) -> None:
    context.works = False
    model = PlanModel(plan, context, torch.device("cpu"), ["Error Code 1: out of tune"])
    with pytest.raises(PlanRunError, match="failed on a batch of 1x3x8x8: Error Code 1: out of tune"):
        model(np.zeros((1, 3, 8, 8), np.float32))


def test_what_was_measured_is_in_the_manifest_that_comes_back(
    plan: PlanManifest, weights: Path, tmp_path: Path, opened: Any
) -> None:
    measured = with_parity(plan, tmp_path, weights, opened)
    assert tuple(entry.shape for entry in measured.parity) == shapes_within(PROFILES)
    assert all(entry.psnr_db is not None and entry.psnr_db > 60 for entry in measured.parity)
    assert all(entry.prompt_weights_error is not None for entry in measured.parity)
    measured.save(tmp_path)
    assert PlanManifest.load(tmp_path).parity_unmeasured is None


def test_a_masked_plan_is_measured_with_mixes_of_sizes_as_well(weights: Path, tmp_path: Path) -> None:
    masked, folder = tmp_path / "masked", tmp_path / "plan"
    export_onnx(weights, "promptir-tiny", masked, masked=True)
    folder.mkdir()
    context = OnnxContext(masked / MODEL_FILE)
    opened = lambda _, manifest: PlanModel(manifest, context, torch.device("cpu"))  # noqa: E731
    measured = with_parity(plan_of(masked, folder), folder, weights, opened)
    mixes = [(shape, sizes) for shape, sizes in VERIFICATION_MIXES if PROFILES[0].holds((len(sizes), *shape))]
    assert mixes
    expected = [(shape, (1, 3, *size)) for shape, sizes in mixes for size in sizes]
    assert [(entry.padded_shape, entry.shape) for entry in measured.parity if entry.padded_shape] == expected
    assert max(entry.max_abs_error for entry in measured.parity) < 1e-5


@pytest.mark.parametrize(("shift", "passes"), [(2.5e-3, True), (3.5e-3, False), (float("nan"), False)])
def test_a_plan_under_50_db_is_refused(
    plan: PlanManifest, weights: Path, tmp_path: Path, opened: Any, context: OnnxContext, shift: float, passes: bool
) -> None:
    context.shift = shift  # with the error of half precision, slightly less than 3.16e-3 gives 50 dB
    if passes:
        assert min(entry.psnr_db or 0 for entry in with_parity(plan, tmp_path, weights, opened).parity) > 50
    else:
        with pytest.raises(ParityError, match="dB against float32; the gate is 50 dB, with an input of"):
            with_parity(plan, tmp_path, weights, opened)


def test_without_weights_the_manifest_says_how_to_name_them(plan: PlanManifest, tmp_path: Path, opened: Any) -> None:
    unmeasured = with_parity(plan, tmp_path, None, opened)
    assert (unmeasured.parity, unmeasured.parity_unmeasured) == ((), NO_WEIGHTS)


def test_weights_beside_the_onnx_file_are_found_and_named_ones_go_before_them(
    mixed_artifact: Path, weights: Path, tmp_path: Path
) -> None:
    manifest = Manifest.load(mixed_artifact)
    assert find_weights(tmp_path, manifest, None) is None
    beside = tmp_path / "weights.safetensors"
    beside.write_bytes(weights.read_bytes())
    assert find_weights(tmp_path, manifest, None) == beside
    assert find_weights(tmp_path, manifest, weights) == weights


def test_without_a_gpu_a_plan_is_neither_measured_nor_verified_and_both_say_why(
    plan: PlanManifest, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_model, "find_device", lambda: None)
    assert with_parity(plan, tmp_path, weights).parity_unmeasured == NO_USABLE_DEVICE
    with pytest.raises(PlanRunError, match=r"^no usable NVIDIA GPU or driver on this machine"):
        open_artifact(tmp_path)


def test_a_plan_of_another_library_is_said_before_a_device_is_used(
    plan: PlanManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_model, "find_device", lambda: Device("a GPU", "9.0", "CUDA 13.0"))
    other = plan.model_copy(update={"tensorrt_version": "1.0.0"})
    with pytest.raises(ArtifactError, match=r"built by tensorrt_rtx 1\.0\.0 and cannot be read by version"):
        open_plan(tmp_path, other)
