"""Tests of the plan manifest: validation, choice of a profile and check of the runtime."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from export.profiles import DEFAULT_PROFILES
from models.artifact import MANIFEST_FILE, MODEL_FILE, ArtifactError, Manifest, sha256_of
from models.plan_manifest import PLAN_FILE, BuildOptions, PlanManifest, ShapeOutsideProfiles, ShapeProfile

SMALL = ShapeProfile(min=(1, 8, 8), opt=(4, 256, 256), max=(8, 512, 512))
LARGE = ShapeProfile(min=(1, 8, 8), opt=(1, 1024, 1024), max=(1, 2040, 2048))
PLAN = b"not really a plan"
WHOLE_PIXELS = 2_097_152


def a_manifest(folder: Path, **fields: object) -> PlanManifest:
    (folder / PLAN_FILE).write_bytes(PLAN)
    return PlanManifest.model_validate(
        {
            "name": "fast",
            "variant": "promptir-tiny",
            "input_name": "image",
            "output_name": "restored",
            "size_multiple": 8,
            "precision": "mixed",
            "opset": 17,
            "sha256": sha256_of(folder / PLAN_FILE),
            "parameters": 345_878,
            "parity": (),
            "exporter": {"tensorrt": "11.4.0.106"},
            "flavour": "tensorrt",
            "tensorrt_version": "11.4.0.106",
            "device": "NVIDIA H100",
            "compute_capability": "9.0",
            "driver": "CUDA 13.0",
            "profiles": (SMALL, LARGE),
            "options": BuildOptions(),
            "layer_types": {"CONVOLUTION": {"HALF": 82}},
            "onnx_sha256": "0" * 64,
            "onnx_parity": (),
            "parity_unmeasured": "not a real plan",
            **fields,
        }
    )


def test_a_saved_manifest_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    manifest = a_manifest(tmp_path)
    manifest.save(tmp_path)
    assert PlanManifest.load(tmp_path) == manifest
    manifest.verify(tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        {"parity_unmeasured": None},
        {"parity": ({"shape": (1, 3, 8, 8), "max_abs_error": 1e-3, "psnr_db": 70.0},)},
    ],
    ids=["neither", "both"],
)
def test_a_plan_has_its_parity_or_the_reason_why_it_has_none(tmp_path: Path, fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="needs either parity or the reason why it was not measured"):
        a_manifest(tmp_path, **fields)


def test_a_changed_plan_is_refused(tmp_path: Path) -> None:
    manifest = a_manifest(tmp_path)
    (tmp_path / PLAN_FILE).write_bytes(PLAN[:-1])
    with pytest.raises(ArtifactError, match=r"model\.plan does not match its manifest"):
        manifest.verify(tmp_path)


def test_an_onnx_artifact_is_not_taken_for_a_plan(tmp_path: Path) -> None:
    (tmp_path / MODEL_FILE).write_bytes(b"")
    (tmp_path / MANIFEST_FILE).write_text("{}")
    with pytest.raises(ArtifactError, match="contains an ONNX artifact, not a TensorRT plan; build one with"):
        PlanManifest.load(tmp_path)


def test_a_plan_is_not_taken_for_an_onnx_artifact(tmp_path: Path) -> None:
    a_manifest(tmp_path).save(tmp_path)
    with pytest.raises(ArtifactError, match="is not a valid manifest"):
        Manifest.load(tmp_path)


def test_a_profile_whose_optimum_exceeds_its_maximum_is_refused() -> None:
    with pytest.raises(ValidationError, match="min <= opt <= max"):
        ShapeProfile(min=(1, 8, 8), opt=(1, 64, 72), max=(1, 64, 64))


@pytest.mark.parametrize(
    ("extent", "index"),
    [
        ((1, 8, 8), 0),
        ((8, 512, 512), 0),
        ((1, 512, 512), 0),  # both accept it; four images of 256x256 have the same number of pixels
        ((1, 520, 512), 1),
        ((1, 2040, 2048), 1),
    ],
)
def test_the_profile_with_the_nearest_optimum_is_picked(
    tmp_path: Path, extent: tuple[int, int, int], index: int
) -> None:
    assert a_manifest(tmp_path).profile_for(extent) == index


def test_of_two_profiles_that_hold_a_shape_order_does_not_decide(tmp_path: Path) -> None:
    assert a_manifest(tmp_path, profiles=(LARGE, SMALL)).profile_for((1, 64, 64)) == 1


@pytest.mark.parametrize("extent", [(9, 8, 8), (2, 1024, 1024), (1, 2048, 2048), (1, 8, 2056)])
def test_a_shape_outside_every_profile_gets_one_sentence(tmp_path: Path, extent: tuple[int, int, int]) -> None:
    with pytest.raises(ShapeOutsideProfiles) as refusal:
        a_manifest(tmp_path).profile_for(extent)
    assert str(refusal.value) == (
        f"no profile of the plan accepts the shape {'x'.join(map(str, extent))} (batch x height x width); "
        "they accept 1x8x8 to 8x512x512, 1x8x8 to 1x2040x2048"
    )


def test_the_library_and_device_it_was_built_with_may_run_it(tmp_path: Path) -> None:
    a_manifest(tmp_path).check_runtime("tensorrt", "11.4.0.106", "9.0")
    a_manifest(tmp_path).check_runtime("tensorrt", "11.4.0.106.post1", "9.0")


@pytest.mark.parametrize(
    ("flavour", "version", "compute_capability", "complaint"),
    [
        ("tensorrt_rtx", "1.7.1.116", "9.0", "cannot be read by tensorrt_rtx 1.7.1.116; build it again here"),
        ("tensorrt", "11.3.0.99", "9.0", "built by tensorrt 11.4.0.106 and cannot be read by version 11.3.0.99"),
        ("tensorrt", "11.4.0.106", "8.9", r"on NVIDIA H100 \(compute capability 9.0, .* run on compute capability 8.9"),
    ],
)
def test_another_library_version_or_device_may_not(
    tmp_path: Path, flavour: str, version: str, compute_capability: str, complaint: str
) -> None:
    with pytest.raises(ArtifactError, match=complaint):
        a_manifest(tmp_path).check_runtime(flavour, version, compute_capability)


def test_a_version_compatible_plan_runs_on_newer_releases_of_its_major(tmp_path: Path) -> None:
    manifest = a_manifest(tmp_path, options=BuildOptions(version_compatible=True))
    manifest.check_runtime("tensorrt", "11.5.0.1", "9.0")
    for version in ("11.3.9.9", "12.0.0.1"):
        with pytest.raises(ArtifactError, match="cannot be read by version"):
            manifest.check_runtime("tensorrt", version, "9.0")


def test_an_ampere_plus_plan_runs_on_ampere_and_newer(tmp_path: Path) -> None:
    manifest = a_manifest(tmp_path, options=BuildOptions(hardware_compatibility="ampere_plus"))
    manifest.check_runtime("tensorrt", "11.4.0.106", "8.0")
    manifest.check_runtime("tensorrt", "11.4.0.106", "12.0")
    with pytest.raises(ArtifactError, match=r"cannot run on compute capability 7\.5"):
        manifest.check_runtime("tensorrt", "11.4.0.106", "7.5")


def test_a_portable_plan_is_bound_to_no_device(tmp_path: Path) -> None:
    manifest = a_manifest(
        tmp_path, flavour="tensorrt_rtx", tensorrt_version="1.7.1.116", compute_capability=None, driver=None
    )
    manifest.check_runtime("tensorrt_rtx", "1.7.1.116", "12.0")


def test_a_size_that_would_run_whole_and_that_no_profile_takes_is_named(tmp_path: Path) -> None:
    assert a_manifest(tmp_path).first_gap(WHOLE_PIXELS, 2048) == (2048, 8)
    assert a_manifest(tmp_path).first_gap(WHOLE_PIXELS, 2040) is None
    narrow = ShapeProfile(min=(1, 64, 8), opt=(1, 64, 64), max=(1, 2048, 2048))
    assert a_manifest(tmp_path, profiles=(narrow,)).first_gap(WHOLE_PIXELS, 1024) == (8, 8)
    pairs = ShapeProfile(min=(2, 8, 8), opt=(2, 64, 64), max=(2, 512, 512))
    assert a_manifest(tmp_path, profiles=(pairs,)).first_gap(64, 8) == (8, 8)


@pytest.mark.parametrize("size", [(2048, 1024), (1024, 2048), (800, 2400), (600, 3000), (512, 4096), (1448, 1448)])
def test_the_default_profiles_take_what_runs_whole_on_a_gpu(tmp_path: Path, size: tuple[int, int]) -> None:
    manifest = a_manifest(tmp_path, profiles=DEFAULT_PROFILES)
    assert manifest.profile_for((1, *size)) > 0
    assert manifest.first_gap(WHOLE_PIXELS, 5824) is None
