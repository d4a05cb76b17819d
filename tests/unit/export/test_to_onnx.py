"""Tests of the exported model: its outputs, its graph and its manifest."""

import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export.samples import noise_samples
from export.shapes import TRACE_SHAPE, VERIFICATION_SHAPES
from export.to_onnx import DEFAULT_OPSET, export_onnx
from export.verify import Model, measure, open_onnx
from models.artifact import MANIFEST_FILE, MODEL_FILE, ArtifactError, Manifest, sha256_of
from models.checkpoint import CheckpointError
from models.layers import LayerNorm2d
from models.restoration import RestorationNetwork

PARITY = 1e-5
NEW_SHAPES = ((1, 3, 24, 136), (4, 3, 16, 16), (2, 3, 56, 8), (1, 3, 128, 88))


@pytest.fixture(scope="module")
def graph(artifact: Path) -> onnx.GraphProto:
    return onnx.load(artifact / MODEL_FILE).graph


@pytest.mark.parametrize("shape", NEW_SHAPES)
def test_the_model_agrees_with_pytorch_at_shapes_it_was_never_tried_with(
    network: RestorationNetwork, artifact: Path, manifest: Manifest, shape: tuple[int, ...]
) -> None:
    assert shape not in (*VERIFICATION_SHAPES, TRACE_SHAPE)
    session = onnxruntime.InferenceSession(artifact / MODEL_FILE, providers=["CPUExecutionProvider"])
    image = np.random.default_rng(1).random(shape, dtype=np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).numpy()
    (found,) = session.run([manifest.output_name], {manifest.input_name: image})
    assert np.abs(found - expected).max() < PARITY


@pytest.mark.parametrize(("folder", "tolerance"), [("artifact", 1e-5), ("mixed_artifact", 5e-3)])
def test_the_second_output_is_the_prompt_weights_of_each_image(
    network: RestorationNetwork, folder: str, tolerance: float, request: pytest.FixtureRequest
) -> None:
    artifact = request.getfixturevalue(folder)
    prompt = Manifest.load(artifact).prompt_output
    assert prompt is not None
    assert (prompt.name, prompt.shape) == ("prompt_weights", (3, 5))
    image = np.random.default_rng(2).random((3, 3, 24, 16), np.float32)
    with torch.inference_mode():
        expected = network.outputs(torch.from_numpy(image)).prompt_weights.numpy()
    found = open_onnx(artifact / MODEL_FILE)(image).prompt_weights
    assert found is not None
    np.testing.assert_allclose(found, expected, atol=tolerance)
    np.testing.assert_allclose(found.sum(axis=2), 1, atol=1e-5)
    assert np.ptp(found, axis=0).max() > tolerance  # images differ, so a mix-up would be noticed


def test_the_mixed_model_agrees_with_float32_pytorch_to_sixty_decibels(
    network: RestorationNetwork, mixed_artifact: Path
) -> None:
    mixed = Manifest.load(mixed_artifact)
    assert mixed.precision == "mixed"
    assert (mixed.input_name, mixed.output_name) == ("image", "restored")
    model = Model("mixed", open_onnx(mixed_artifact / MODEL_FILE))
    for measured in measure(network, [model], noise_samples(NEW_SHAPES)):
        assert measured.comparison.psnr_db > 60
    assert all(entry.psnr_db is not None and entry.psnr_db > 60 for entry in mixed.parity)


def test_the_mixed_model_takes_and_gives_float32_and_is_half_as_large(artifact: Path, mixed_artifact: Path) -> None:
    graph = onnx.load(mixed_artifact / MODEL_FILE).graph
    for value in (graph.input[0], graph.output[0]):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    widest_norm = 96
    large = [tensor.data_type for tensor in graph.initializer if math.prod(tensor.dims) > widest_norm]
    assert set(large) == {onnx.TensorProto.FLOAT16}
    assert (mixed_artifact / MODEL_FILE).stat().st_size < 0.65 * (artifact / MODEL_FILE).stat().st_size


@pytest.mark.parametrize("folder", ["artifact", "mixed_artifact"])
def test_every_depthwise_convolution_has_a_width_of_eights(folder: str, request: pytest.FixtureRequest) -> None:
    graph = onnx.load(request.getfixturevalue(folder) / MODEL_FILE).graph
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    shapes = [weights[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    depthwise = [shape[0] for shape in shapes if shape[1] == 1]
    assert len(depthwise) == 22
    assert [width for width in depthwise if width % 8] == []


def test_the_model_declares_the_axes_of_the_manifest(manifest: Manifest, graph: onnx.GraphProto) -> None:
    for value, name in ((graph.input[0], manifest.input_name), (graph.output[0], "restored")):
        dimensions = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        assert value.name == name
        assert tuple(dimensions) == manifest.input_shape == ("n", 3, "h", "w")
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_the_graph_is_clean(network: RestorationNetwork, graph: onnx.GraphProto) -> None:
    operators = Counter(node.op_type for node in graph.node)
    norms = sum(isinstance(module, LayerNorm2d) for module in network.modules())
    assert operators["LayerNormalization"] == norms
    assert operators["If"] == operators["Loop"] == operators["Expand"] == operators["Tile"] == 0


def test_the_model_file_does_not_tell_where_it_was_made(artifact: Path) -> None:
    content = (artifact / MODEL_FILE).read_bytes()
    assert b".py" not in content
    assert str(artifact.parent).encode() not in content


def test_the_folder_holds_the_model_and_the_manifest_only(artifact: Path) -> None:
    assert {path.name for path in artifact.iterdir()} == {MODEL_FILE, MANIFEST_FILE}
    assert not list(artifact.parent.glob(".*"))


def test_the_written_manifest_is_the_returned_one_and_fits_its_model(artifact: Path, manifest: Manifest) -> None:
    manifest = Manifest.load(artifact)
    assert manifest == manifest
    manifest.verify(artifact)


def test_the_manifest_describes_the_export(weights: Path, manifest: Manifest) -> None:
    manifest = manifest
    assert (manifest.name, manifest.variant, manifest.precision) == ("artifact", "promptir-tiny", "fp32")
    assert (manifest.opset, manifest.size_multiple, manifest.parameters) == (DEFAULT_OPSET, 8, 345_878)
    assert manifest.weights_sha256 == sha256_of(weights)
    assert set(manifest.exporter) == {"torch", "onnx", "onnxruntime", "onnxslim"}
    assert manifest.exporter["torch"] == torch.__version__


def test_parity_was_measured_where_mistakes_of_a_tracer_show(manifest: Manifest) -> None:
    shapes = [entry.shape for entry in manifest.parity]
    assert len(shapes) >= 4
    assert TRACE_SHAPE not in shapes
    assert any(shape[0] > 1 for shape in shapes)
    assert any(shape[2] > shape[3] for shape in shapes)
    assert any(shape[2] < shape[3] for shape in shapes)
    assert all(entry.max_abs_error < PARITY for entry in manifest.parity)
    assert all(
        entry.prompt_weights_error is not None and entry.prompt_weights_error < PARITY for entry in manifest.parity
    )


def test_a_tampered_model_is_refused(artifact: Path, manifest: Manifest, tmp_path: Path) -> None:
    folder = shutil.copytree(artifact, tmp_path / "tampered")
    content = bytearray((folder / MODEL_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / MODEL_FILE).write_bytes(content)
    with pytest.raises(ArtifactError, match="does not match its manifest"):
        Manifest.load(folder).verify(folder)


def test_the_same_weights_give_the_same_model_at_another_time(
    weights: Path, manifest: Manifest, tmp_path: Path
) -> None:
    again = export_onnx(weights, "promptir-tiny", tmp_path / "artifact")
    assert again == manifest


def test_weights_of_another_variant_write_nothing(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the file holds a promptir-tiny network"):
        export_onnx(weights, "promptir-compact", tmp_path / "artifact")
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_numbers_write_nothing(network: RestorationNetwork, tmp_path: Path) -> None:
    state = network.state_dict()
    torch.save(state | {"output.weight": torch.full_like(state["output.weight"], torch.nan)}, tmp_path / "nan.pt")
    with pytest.raises(ValueError, match="is off by nan"):
        export_onnx(tmp_path / "nan.pt", "promptir-tiny", tmp_path / "artifact")
    assert [path.name for path in tmp_path.iterdir()] == ["nan.pt"]


@pytest.mark.parametrize("opset", [16, 21])
def test_an_opset_that_cannot_be_exported_is_refused(weights: Path, tmp_path: Path, opset: int) -> None:
    with pytest.raises(ValueError, match=rf"opset {opset} cannot be exported; choose one of 17, 18, 19, 20"):
        export_onnx(weights, "promptir-tiny", tmp_path / "artifact", opset)
