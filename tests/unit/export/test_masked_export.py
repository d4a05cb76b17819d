"""Tests of the masked export: a graph with each image's size as input, compared with single runs."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export.cli import main
from export.profiles import widest_tensor
from export.shapes import VERIFICATION_MIXES
from export.to_onnx import export_onnx
from export.verify import GATES, ParityError, open_masked_onnx, open_onnx, verify
from models.artifact import MODEL_FILE, Manifest
from models.restoration import RestorationNetwork

VARIANT = "promptir-tiny"
NAMES = ("height", "width")
SIZES = [(24, 40), (8, 8), (48, 16)]


@pytest.fixture(scope="module")
def masked(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "masked"
    export_onnx(weights, VARIANT, folder, masked=True)
    return folder


@pytest.fixture(scope="module")
def padded() -> np.ndarray:
    return np.random.default_rng(7).random((len(SIZES), 3, 48, 40), np.float32)


def test_the_manifest_names_the_inputs_and_has_the_parity_of_every_mix(masked: Path, manifest: Manifest) -> None:
    found = Manifest.load(masked)
    assert (found.size_inputs, manifest.size_inputs) == (NAMES, None)
    mixed = [(entry.padded_shape, entry.shape[2:]) for entry in found.parity if entry.padded_shape]
    assert mixed == [(shape, size) for shape, sizes in VERIFICATION_MIXES for size in sizes]
    assert not any(entry.padded_shape for entry in manifest.parity)


def test_the_graph_takes_any_batch_with_the_size_of_each_image(masked: Path) -> None:
    session = onnxruntime.InferenceSession(masked / MODEL_FILE, providers=["CPUExecutionProvider"])
    found = {node.name: (node.type, node.shape) for node in session.get_inputs()}
    assert found == {
        "image": ("tensor(float)", ["n", 3, "h", "w"]),
        "height": ("tensor(int64)", ["n"]),
        "width": ("tensor(int64)", ["n"]),
    }


def test_each_image_comes_out_as_from_the_plain_export(masked: Path, artifact: Path, padded: np.ndarray) -> None:
    mixed, weights = open_masked_onnx(masked / MODEL_FILE, NAMES)(padded, SIZES)
    plain = open_onnx(artifact / MODEL_FILE)
    for index, (height, width) in enumerate(SIZES):
        alone = plain(np.ascontiguousarray(padded[index : index + 1, :, :height, :width]))
        assert np.abs(mixed[index : index + 1, :, :height, :width] - alone.restored).max() < 1e-5
        assert np.abs(weights[index] - alone.prompt_weights[0]).max() < 1e-5


def test_mixed_precision_is_as_near_to_float32_as_its_own_single_runs(
    weights: Path, mixed_artifact: Path, network: RestorationNetwork, padded: np.ndarray, tmp_path: Path
) -> None:
    export_onnx(weights, VARIANT, tmp_path / "masked", precision="mixed", masked=True)
    mixed, _ = open_masked_onnx(tmp_path / "masked" / MODEL_FILE, NAMES)(padded, SIZES)
    plain = open_onnx(mixed_artifact / MODEL_FILE)
    for index, (height, width) in enumerate(SIZES):
        image = np.ascontiguousarray(padded[index : index + 1, :, :height, :width])
        with torch.inference_mode():
            expected = network(torch.from_numpy(image)).numpy()
        own_error = np.abs(plain(image).restored - expected).max()
        assert np.abs(mixed[index : index + 1, :, :height, :width] - expected).max() < 2 * own_error


def test_a_model_that_takes_no_sizes_does_not_pass_for_a_masked_one(
    network: RestorationNetwork, artifact: Path
) -> None:
    with pytest.raises(ParityError, match="additional inputs"):
        verify(network, artifact / MODEL_FILE, GATES["fp32"], NAMES)


def test_a_model_with_height_and_width_exchanged_is_caught(
    network: RestorationNetwork, masked: Path, tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(masked / MODEL_FILE)
    for node in model.graph.node:
        exchanged = {"height": "width", "width": "height"}
        node.input[:] = [exchanged.get(name, name) for name in node.input]
    onnx.save(model, tmp_path / MODEL_FILE)
    with pytest.raises(ParityError, match="is off by"):
        verify(network, tmp_path / MODEL_FILE, GATES["fp32"], NAMES)


def test_the_commands_export_and_verify_it(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "masked")
    exporting = ["onnx", "--masked", "--weights", str(weights), "--variant", VARIANT, "--output", folder]
    assert main(exporting) in (0, None)
    assert "masked" in capsys.readouterr().out
    assert main(["verify", folder, "--weights", str(weights)]) in (0, None)
    assert "in 64x64" in capsys.readouterr().out


def test_the_widest_tensor_of_a_masked_graph_is_that_of_a_plain_one(masked: Path, artifact: Path) -> None:
    extent = (2, 64, 72)
    found, plain = (widest_tensor(onnx.load(folder / MODEL_FILE), extent) for folder in (masked, artifact))
    assert found.shape == plain.shape == (2, 96, 64, 72)
