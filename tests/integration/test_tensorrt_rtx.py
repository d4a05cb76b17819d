"""Mixed-precision plans of the real networks, built by TensorRT-RTX on a machine without a GPU."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
import pytest
import tensorrt_rtx
import torch
from safetensors.torch import save_file

from export.layer_audit import audit, check_layer_types
from export.plan_builder import PlanBuilder
from export.precision import PrecisionError, expected_by_layer
from export.to_onnx import DEFAULT_OPSET, export_onnx, simplify, trace
from export.to_tensorrt import export_plan
from models.artifact import DEFAULT_ARTIFACT, MODEL_FILE, Manifest
from models.degradation_head import DegradationHead
from models.layers import MDTA, LayerNorm2d
from models.naf import NAFBlock
from models.nvidia_gpu import find_device
from models.plan_manifest import PLAN_FILE, PlanManifest, ShapeProfile
from models.prompt import PromptGeneration
from models.restoration import RestorationNetwork
from models.tensorrt_faults import NO_USABLE_DEVICE
from models.variants import build, variant

PROFILES = (
    ShapeProfile(min=(1, 8, 8), opt=(4, 256, 256), max=(8, 512, 512)),
    ShapeProfile(min=(1, 64, 64), opt=(1, 1024, 1024), max=(1, 2040, 2048)),
)
NORMALISED = 2
"""Queries and keys."""
HEAD_REDUCTIONS = 4
"""Three means, because the fourth, the coarsest, is the coarsest prompt's, too; and the most probable label."""


@dataclass
class Export:
    """A network and what was exported from it."""

    network: RestorationNetwork
    artifact: Path
    parsed: Any
    """An `INetworkDefinition`, valid as long as its builder."""
    builder: PlanBuilder

    def count(self, kind: type[torch.nn.Module]) -> int:
        return sum(isinstance(module, kind) for module in self.network.modules())


def export(name: str, precision: str, folder: Path) -> Export:
    torch.manual_seed(0)
    network = build(variant(name)).eval()
    save_file(network.state_dict(), folder / "weights.safetensors")
    artifact = folder / precision
    export_onnx(folder / "weights.safetensors", name, artifact, precision=precision)
    builder = PlanBuilder(tensorrt_rtx)
    builder.start()
    parsed = builder.parse(artifact / MODEL_FILE, Manifest.load(artifact))
    return Export(network, artifact, parsed, builder)


@pytest.fixture(
    scope="module",
    params=[
        "promptir-tiny",
        "promptnaf",
        pytest.param("promptir", marks=pytest.mark.slow),
    ],
)
def mixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Export:
    return export(request.param, "mixed", tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return export("promptir-tiny", "fp32", tmp_path_factory.mktemp("fp32"))


def test_every_layer_has_the_type_of_the_precision_table(mixed: Export) -> None:
    table = audit(mixed.parsed)
    assert {layer_type: set(table[layer_type]) for layer_type in expected_by_layer()} == {
        layer_type: {dtype} for layer_type, dtype in expected_by_layer().items()
    }
    blocks, prompts = mixed.count(MDTA), mixed.count(PromptGeneration)
    assert table["NORMALIZATION"] == {"FLOAT": mixed.count(LayerNorm2d)}
    assert table["SOFTMAX"] == {"FLOAT": blocks + prompts}
    others = mixed.count(NAFBlock) + HEAD_REDUCTIONS * mixed.count(DegradationHead)
    assert table["REDUCE"] == {"FLOAT": NORMALISED * blocks + prompts + others}


def test_images_go_in_and_come_out_in_float32_at_any_shape(mixed: Export) -> None:
    assert (mixed.parsed.num_inputs, mixed.parsed.num_outputs) == (1, 2)
    for tensor, name in ((mixed.parsed.get_input(0), "image"), (mixed.parsed.get_output(0), "restored")):
        assert (tensor.name, tensor.dtype, tuple(tensor.shape)) == (name, tensorrt_rtx.float32, (-1, 3, -1, -1))
    weights = mixed.parsed.get_output(1)
    shape = (-1, *mixed.network.findings_shape)
    assert (weights.name, weights.dtype, tuple(weights.shape)) == ("prompt_weights", tensorrt_rtx.float32, shape)


def test_the_network_is_strongly_typed(mixed: Export) -> None:
    assert mixed.parsed.get_flag(tensorrt_rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def test_a_plan_with_dynamic_profiles_is_built_without_a_gpu(mixed: Export, tmp_path: Path) -> None:
    folder = tmp_path / "plan"
    manifest = export_plan(mixed.artifact, folder, PROFILES)
    PlanManifest.load(folder).verify(folder)
    assert (manifest.precision, manifest.flavour, manifest.device) == ("mixed", "tensorrt_rtx", "portable")
    assert manifest.layer_types == audit(mixed.parsed)
    assert manifest.profiles == PROFILES
    assert manifest.prompt_output == Manifest.load(mixed.artifact).prompt_output
    weights = (mixed.artifact / MODEL_FILE).stat().st_size
    assert (folder / PLAN_FILE).stat().st_size > weights / 2


def test_an_fp32_plan_is_built_without_a_gpu_too_and_says_that_it_was_not_measured(
    fp32: Export, tmp_path: Path
) -> None:
    manifest = export_plan(fp32.artifact, tmp_path / "plan", PROFILES)
    assert manifest.precision == "fp32"
    assert manifest.layer_types["CONVOLUTION"].keys() == {"FLOAT"}
    PlanManifest.load(tmp_path / "plan").verify(tmp_path / "plan")
    if find_device() is None:
        assert manifest.parity_unmeasured == NO_USABLE_DEVICE


def test_the_shipped_file_is_parsed_with_its_prompt_weights() -> None:
    builder = PlanBuilder(tensorrt_rtx)
    builder.start()
    parsed = builder.parse(DEFAULT_ARTIFACT / MODEL_FILE, Manifest.load(DEFAULT_ARTIFACT))
    check_layer_types(audit(parsed), "fp32")
    assert parsed.num_outputs == 2


@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=pytest.mark.slow), "mixed"])
def test_a_masked_network_keeps_the_precision_table_and_is_built(
    fp32: Export, tmp_path: Path, precision: Literal["fp32", "mixed"]
) -> None:
    artifact, weights = tmp_path / "masked", fp32.artifact.parent / "weights.safetensors"
    export_onnx(weights, "promptir-tiny", artifact, precision=precision, masked=True)
    manifest = export_plan(artifact, tmp_path / "plan", PROFILES[:1])
    assert (manifest.size_inputs, manifest.precision) == (("height", "width"), precision)
    assert (tmp_path / "plan" / PLAN_FILE).stat().st_size > (artifact / MODEL_FILE).stat().st_size / 2


def test_an_fp32_network_is_parsed_in_fp32_and_does_not_pass_for_mixed(fp32: Export) -> None:
    table = audit(fp32.parsed)
    check_layer_types(table, "fp32")
    with pytest.raises(PrecisionError, match="CONVOLUTION must be HALF"):
        check_layer_types(table, "mixed")


def test_a_network_in_half_precision_without_islands_does_not_pass(
    fp32: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("models.layers", "models.prompt", "models.promptir"):
        monkeypatch.setattr(f"{module}.widened", lambda x: x)
    model = tmp_path / MODEL_FILE
    trace(copy.deepcopy(fp32.network).half(), model, DEFAULT_OPSET)
    simplify(model)
    images_alone = onnx.load(model)
    del images_alone.graph.output[1]  # in half, it would be refused before the audit
    onnx.save(images_alone, model)
    builder = PlanBuilder(tensorrt_rtx)
    builder.start()
    manifest = Manifest.load(fp32.artifact).model_copy(update={"prompt_output": None})
    table = audit(builder.parse(model, manifest))
    with pytest.raises(PrecisionError, match="NORMALIZATION must be FLOAT, found 22 HALF"):
        check_layer_types(table, "mixed")
