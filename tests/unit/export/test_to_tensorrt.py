"""Tests of the TensorRT export with TensorRT-RTX, on a graph of two layers."""

import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import tensorrt_rtx
from onnx import TensorProto, helper

from export import plan_model
from export.build_progress import BuildProgress
from export.cli import main
from export.plan_builder import BuildError, PlanBuilder
from export.precision import PrecisionError
from export.profiles import ProfileError
from export.staging import OutputFolderError
from export.tensorrt_library import TensorRTUnavailable, load_tensorrt
from export.to_tensorrt import build_options, export_plan
from models.artifact import MANIFEST_FILE, MODEL_FILE, ArtifactError, Manifest, sha256_of
from models.nvidia_gpu import find_device
from models.plan_manifest import PLAN_FILE, BuildOptions, PlanManifest, ShapeProfile
from models.tensorrt_faults import NO_USABLE_DEVICE

PROFILES = (
    ShapeProfile(min=(1, 8, 8), opt=(4, 64, 64), max=(8, 128, 128)),
    ShapeProfile(min=(1, 8, 8), opt=(1, 256, 256), max=(1, 512, 512)),
)
IMAGE_AXES = ("n", 3, "h", "w")
PROMPT = {"name": "weights", "levels": 3, "components": 5}

MakeArtifact = Callable[..., Path]


def a_model(operator: str = "Relu", domain: str = "", axes: tuple[object, ...] = IMAGE_AXES) -> onnx.ModelProto:
    """Build a model of a 1x1 convolution and one more operator."""
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["features"], name="/project/Conv"),
        helper.make_node(operator, ["features"], ["restored"], name="/last/node", domain=domain),
    ]
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [3, 3, 1, 1], [0.5] * 9)
    image, restored = (helper.make_tensor_value_info(name, TensorProto.FLOAT, axes) for name in ("image", "restored"))
    graph = helper.make_graph(nodes, "g", [image], [restored], [weight])
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.fixture
def make_artifact(tmp_path: Path) -> MakeArtifact:
    """Write an artifact folder for a model; keyword arguments replace fields of its manifest."""

    def make(model: onnx.ModelProto, **fields: object) -> Path:
        folder = tmp_path / "onnx"
        folder.mkdir()
        onnx.save(model, folder / MODEL_FILE)
        manifest = {
            "name": "onnx",
            "variant": "two-layers",
            "input_name": "image",
            "output_name": "restored",
            "size_multiple": 8,
            "precision": "fp32",
            "opset": 17,
            "sha256": sha256_of(folder / MODEL_FILE),
            "parameters": 9,
            "parity": [{"shape": (1, 3, 8, 8), "max_abs_error": 1e-7}],
            "exporter": {"onnx": onnx.__version__},
        }
        Manifest.model_validate(manifest | fields).save(folder)
        return folder

    return make


def test_the_plan_folder_holds_a_plan_and_the_manifest_that_was_returned(
    make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    artifact, output = make_artifact(a_model()), tmp_path / "plan"
    manifest = export_plan(artifact, output, PROFILES, BuildOptions(workspace_mb=64, optimisation_level=0))
    assert {path.name for path in output.iterdir()} == {PLAN_FILE, MANIFEST_FILE}
    assert PlanManifest.load(output) == manifest
    manifest.verify(output)


def test_the_manifest_says_what_was_built_from_what_and_for_where(make_artifact: MakeArtifact, tmp_path: Path) -> None:
    artifact = make_artifact(a_model())
    source = Manifest.load(artifact)
    manifest = export_plan(artifact, tmp_path / "plan", PROFILES)
    assert (manifest.name, manifest.variant, manifest.precision) == ("plan", "two-layers", "fp32")
    assert (manifest.flavour, manifest.tensorrt_version) == ("tensorrt_rtx", tensorrt_rtx.__version__)
    assert (manifest.device, manifest.compute_capability) == ("portable", None)
    assert (manifest.onnx_sha256, manifest.onnx_parity) == (source.sha256, source.parity)
    assert manifest.profiles == PROFILES
    assert manifest.layer_types["CONVOLUTION"] == {"FLOAT": 1}
    assert manifest.exporter == source.exporter | {"tensorrt_rtx": tensorrt_rtx.__version__}


def test_without_a_gpu_the_manifest_says_why_it_has_no_parity(
    make_artifact: MakeArtifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_model, "find_device", lambda: None)
    export_plan(make_artifact(a_model()), tmp_path / "plan", PROFILES)
    manifest = PlanManifest.load(tmp_path / "plan")
    assert manifest.parity == ()
    assert manifest.parity_unmeasured == NO_USABLE_DEVICE


def test_weights_of_another_export_are_refused_before_anything_is_built(
    make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    artifact = make_artifact(a_model(), weights_sha256="0" * 64)
    (artifact / "weights.safetensors").write_bytes(b"others")
    with pytest.raises(ArtifactError, match=r"is not the file that .* was exported from"):
        export_plan(artifact, tmp_path / "plan", PROFILES)
    with pytest.raises(ArtifactError, match="nowhere does not exist"):
        export_plan(artifact, tmp_path / "plan", PROFILES, weights=tmp_path / "nowhere")


def test_without_any_tensorrt_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(TensorRTUnavailable, match="TensorRT is not installed; install the package tensorrt for"):
        load_tensorrt()


def test_enterprise_tensorrt_without_its_libraries_is_not_passed_over_for_the_other_flavour(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = 'raise ImportError("libnvonnxparser.so.11: cannot open shared object file: No such file or directory")'
    (tmp_path / "tensorrt.py").write_text(broken)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TensorRTUnavailable, match=r"its libraries do not load \(libnvonnxparser\.so\.11: cannot open"):
        load_tensorrt()


def test_an_onnx_file_that_does_not_match_its_manifest_is_refused(make_artifact: MakeArtifact, tmp_path: Path) -> None:
    artifact = make_artifact(a_model(), sha256="0" * 64)
    with pytest.raises(ArtifactError, match=r"model\.onnx does not match its manifest: expected sha256 0000"):
        export_plan(artifact, tmp_path / "plan", PROFILES)
    assert not (tmp_path / "plan").exists()


def test_a_plan_is_not_built_from_a_plan(make_artifact: MakeArtifact, tmp_path: Path) -> None:
    artifact = make_artifact(a_model())
    (artifact / MODEL_FILE).rename(artifact / PLAN_FILE)
    with pytest.raises(ArtifactError, match="holds a TensorRT plan; name the ONNX artifact to build one from"):
        export_plan(artifact, tmp_path / "plan", PROFILES)


def test_the_plan_does_not_overwrite_the_artifact_it_is_built_from(make_artifact: MakeArtifact) -> None:
    artifact = make_artifact(a_model())
    with pytest.raises(OutputFolderError, match="must not replace"):
        export_plan(artifact, artifact, PROFILES)
    Manifest.load(artifact).verify(artifact)


def test_a_profile_beyond_the_element_limit_is_refused_before_anything_is_built(
    make_artifact: MakeArtifact, tmp_path: Path
) -> None:
    huge = ShapeProfile(min=(1, 8, 8), opt=(1, 64, 64), max=(64, 8192, 8192))
    with pytest.raises(ProfileError, match=r"the largest allowed shape is 64x3344x3344 or 10x8192x8192$"):
        export_plan(make_artifact(a_model()), tmp_path / "plan", [huge])


@pytest.mark.parametrize(
    ("operator", "domain", "complaint"),
    [
        ("Frobnicate", "acme", r"node '/last/node' \(Frobnicate\), INVALID_NODE: .*Plugin not found"),
        ("Det", "", r"node '/last/node' \(Det\), UNSUPPORTED_NODE"),
    ],
)
def test_an_operator_that_tensorrt_does_not_know_is_named_with_its_node(
    make_artifact: MakeArtifact, operator: str, domain: str, complaint: str
) -> None:
    artifact = make_artifact(a_model(operator, domain))
    builder = PlanBuilder(tensorrt_rtx)
    builder.start()
    with pytest.raises(BuildError, match=rf"TensorRT cannot parse .*model\.onnx: {complaint}"):
        builder.parse(artifact / MODEL_FILE, Manifest.load(artifact))


@pytest.mark.parametrize(
    ("axes", "fields", "complaint"),
    [
        (IMAGE_AXES, {"input_name": "picture"}, r"the model's inputs are \['image'\], its manifest says \['picture'\]"),
        (IMAGE_AXES, {"output_name": "answer"}, r"outputs are \['restored'\], its manifest says \['answer'\]"),
        (IMAGE_AXES, {"prompt_output": PROMPT}, r"\['restored'\], its manifest says \['restored', 'weights'\]"),
        ((1, 3, "h", "w"), {}, r"the model's input image is FLOAT \(1, 3, -1, -1\) instead of FLOAT \(-1, 3, -1, -1\)"),
    ],
)
def test_inputs_and_outputs_other_than_the_manifests_are_refused(
    make_artifact: MakeArtifact, tmp_path: Path, axes: tuple[object, ...], fields: dict[str, object], complaint: str
) -> None:
    with pytest.raises(BuildError, match=complaint):
        export_plan(make_artifact(a_model(axes=axes), **fields), tmp_path / "plan", PROFILES)


def test_a_network_that_breaks_its_precision_is_not_built(make_artifact: MakeArtifact, tmp_path: Path) -> None:
    artifact = make_artifact(a_model(), precision="mixed")
    with pytest.raises(PrecisionError, match="CONVOLUTION must be HALF, found 1 FLOAT"):
        export_plan(artifact, tmp_path / "plan", PROFILES)
    assert not (tmp_path / "plan").exists()


def test_what_the_builder_refuses_is_told_in_its_words(make_artifact: MakeArtifact, tmp_path: Path) -> None:
    large = ShapeProfile(min=(1, 8, 8), opt=(1, 1024, 1024), max=(2, 2048, 2048))
    with pytest.raises(BuildError, match=r"TensorRT cannot build the plan: .*within workspace limit"):
        export_plan(make_artifact(a_model()), tmp_path / "plan", [large], BuildOptions(workspace_mb=1))
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]


def test_a_cancelled_build_ends_as_an_interrupt(make_artifact: MakeArtifact) -> None:
    artifact = make_artifact(a_model())
    builder = PlanBuilder(tensorrt_rtx)
    builder.start()
    builder.parse(artifact / MODEL_FILE, Manifest.load(artifact))
    progress = BuildProgress()
    progress.cancelled = True  # what Ctrl-C sets
    with pytest.raises(KeyboardInterrupt):
        builder.build("image", PROFILES, BuildOptions(), None, progress)


@pytest.mark.parametrize(
    ("options", "cache", "complaint"),
    [
        (BuildOptions(hardware_compatibility="ampere_plus"), False, "leave out --hardware-compatibility"),
        (BuildOptions(version_compatible=True), False, "leave out --version-compatible"),
        (BuildOptions(), True, "leave out --timing-cache"),
    ],
)
def test_options_that_tensorrt_rtx_does_not_have_are_refused(
    make_artifact: MakeArtifact, tmp_path: Path, options: BuildOptions, cache: bool, complaint: str
) -> None:
    with pytest.raises(BuildError, match=complaint):
        export_plan(
            make_artifact(a_model()), tmp_path / "plan", PROFILES, options, tmp_path / "cache" if cache else None
        )


@pytest.mark.parametrize(("field", "value"), [("optimisation_level", 6), ("workspace_mb", 0)])
def test_an_option_out_of_range_is_named(field: str, value: int) -> None:
    with pytest.raises(BuildError, match=f"build option {field} = {value}: Input should be "):
        build_options(**{field: value})


@pytest.mark.skipif(find_device() is not None, reason="there is a GPU: the plan would load")
def test_without_a_gpu_a_plan_is_said_not_to_load_for_want_of_one(make_artifact: MakeArtifact) -> None:
    artifact = make_artifact(a_model())
    builder = PlanBuilder(tensorrt_rtx)
    builder.start()
    builder.parse(artifact / MODEL_FILE, Manifest.load(artifact))
    plan = builder.build("image", PROFILES, BuildOptions(), None, BuildProgress())
    with pytest.raises(BuildError, match=r"^no usable NVIDIA GPU or driver on this machine; .*\(CUDA error (35|100)\)"):
        builder.check_loads(plan, BuildOptions())


@pytest.mark.gpu
@pytest.mark.skipif(find_device() is None, reason="needs an NVIDIA GPU and its driver")
def test_with_a_gpu_a_damaged_plan_is_said_to_be_damaged_or_of_another_version() -> None:
    builder = PlanBuilder(tensorrt_rtx)
    builder.start()
    with pytest.raises(BuildError, match="it was built for another version or device, or is damaged"):
        builder.check_loads(b"no plan at all" * 100, BuildOptions())


def test_the_command_prints_the_layer_table_and_one_line_about_the_plan(
    make_artifact: MakeArtifact, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "plan"
    command = ["tensorrt", "--onnx", str(make_artifact(a_model())), "--output", str(output)]
    assert main([*command, "--profile", "1x8x8:1x64x64:2x64x64", "1x8x8:1x128x128:1x128x128"]) == 0
    captured = capfd.readouterr()
    *table, last, parity = captured.out.splitlines()
    assert [line.split() for line in table if "CONV" in line] == [["CONVOLUTION", "1", "FLOAT"]]
    version = tensorrt_rtx.__version__
    assert last.startswith(f"{output}: two-layers, fp32, tensorrt_rtx {version}, portable, 2 profiles, 0.")
    assert parity.startswith("parity not measured: ")
    assert [line.split()[0] for line in captured.err.splitlines()] == ["parsing", "building", "built"]


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (["--profile", "1x8x8"], "profile '1x8x8' is not MIN:OPT:MAX"),
        (["--optimisation-level", "9"], "build option optimisation_level = 9"),
    ],
)
def test_a_mistake_on_the_command_line_gets_one_sentence(
    make_artifact: MakeArtifact, tmp_path: Path, capfd: pytest.CaptureFixture[str], extra: list[str], complaint: str
) -> None:
    command = ["tensorrt", "--onnx", str(make_artifact(a_model())), "--output", str(tmp_path / "plan"), *extra]
    assert main(command) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"promptir-export: {complaint}")
    assert captured.err.count("\n") == 1
