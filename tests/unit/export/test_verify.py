"""Tests of the parity gate."""

import copy
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export.comparison import EXACT_DB, Comparison, ModelOutput, Pixels, compare
from export.samples import noise_samples
from export.shapes import VERIFICATION_SHAPES
from export.verify import GATES, Gate, Model, ParityError, measure, open_artifact, parity_of, verify
from models.artifact import MODEL_FILE, ArtifactError, Precision
from models.restoration import RestorationNetwork


def test_every_verification_shape_is_measured(network: RestorationNetwork, artifact: Path) -> None:
    parity = verify(network, artifact / MODEL_FILE)
    assert tuple(entry.shape for entry in parity) == VERIFICATION_SHAPES


def test_a_model_of_slightly_other_weights_is_refused(network: RestorationNetwork, artifact: Path) -> None:
    other = copy.deepcopy(network)
    with torch.inference_mode():
        other.output.weight[0, 0, 0, 0] += 0.01
    with pytest.raises(ParityError, match=r"is off by .*; the tolerance is 1e-04, with an input of 1x3x8x8"):
        verify(other, artifact / MODEL_FILE)


def test_the_gate_is_the_callers(network: RestorationNetwork, artifact: Path) -> None:
    with pytest.raises(ParityError, match="the tolerance is 1e-12"):
        verify(network, artifact / MODEL_FILE, Gate(max_abs_error=1e-12))
    with pytest.raises(ParityError, match="dB against float32; the gate is 190 dB, with an input of 1x3x8x8"):
        verify(network, artifact / MODEL_FILE, Gate(min_psnr_db=190))


@pytest.mark.parametrize("wrong_by", [0.01, float("nan")])
def test_a_model_that_weighs_its_prompts_wrong_is_refused(network: RestorationNetwork, wrong_by: float) -> None:
    def candidate(batch: Pixels) -> ModelOutput:
        with torch.inference_mode():
            restored, weights, _ = network.outputs(torch.from_numpy(batch))
        return ModelOutput(restored.numpy(), weights.numpy() + np.float32(wrong_by))

    with pytest.raises(ParityError, match=r"has a prompt weight off by .*; the tolerance is 0.0001"):
        parity_of(network, Model("wrong", candidate), noise_samples(), GATES["fp32"])


def test_a_model_without_prompt_weights_is_held_to_its_images(network: RestorationNetwork) -> None:
    def candidate(batch: Pixels) -> ModelOutput:
        with torch.inference_mode():
            return ModelOutput(network(torch.from_numpy(batch)).numpy())

    parity = parity_of(network, Model("images", candidate), noise_samples(), GATES["fp32"])
    assert {entry.prompt_weights_error for entry in parity} == {None}


@pytest.mark.parametrize("precision", sorted(GATES))
def test_what_is_not_finite_passes_no_gate(precision: Precision) -> None:
    expected = np.zeros((2, 3, 8, 8), np.float32)
    for value in (np.nan, np.inf):
        found = expected.copy()
        found[1, 0, 0, 0] = value
        comparison = compare(found, expected)
        assert comparison.non_finite == 1
        assert GATES[precision].complaint(comparison) is not None


@pytest.mark.parametrize(
    ("precision", "error", "passes"),
    [("fp32", 0.9e-4, True), ("fp32", 1.1e-4, False), ("mixed", 3.1e-3, True), ("mixed", 3.2e-3, False)],
)
def test_the_gates_are_those_of_the_documentation(precision: Precision, error: float, passes: bool) -> None:
    # An error of 10 ** (-50 / 20) = 3.16e-3 everywhere is 50 dB.
    comparison = compare(np.full((1, 3, 8, 8), error, np.float32), np.zeros((1, 3, 8, 8), np.float32))
    assert (GATES[precision].complaint(comparison) is None) == passes


def test_one_bad_image_fails_its_batch() -> None:
    expected = np.zeros((4, 3, 8, 8), np.float32)
    found = expected.copy()
    found[3] = 0.1
    assert compare(found, expected).psnr_db == pytest.approx(20)


def test_equal_answers_have_a_ratio_that_json_can_hold() -> None:
    image = np.ones((1, 3, 8, 8), np.float32)
    assert compare(image, image) == Comparison(max_abs_error=0, psnr_db=EXACT_DB, non_finite=0)


def test_a_candidate_of_any_runtime_can_be_measured(network: RestorationNetwork) -> None:
    def darker(batch: Pixels) -> ModelOutput:
        with torch.inference_mode():
            return ModelOutput(network(torch.from_numpy(batch)).numpy() - np.float32(0.25))

    (measured,) = measure(network, [Model("darker", darker)], noise_samples(((2, 3, 16, 24),)))
    assert (measured.model.name, measured.shape) == ("darker", (2, 3, 16, 24))
    assert measured.comparison.max_abs_error == pytest.approx(0.25, abs=1e-6)


def test_an_artifact_is_checked_before_it_is_measured(artifact: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(artifact, tmp_path / "artifact")
    with (folder / MODEL_FILE).open("ab") as file:
        file.write(b"!")
    with pytest.raises(ArtifactError, match="does not match its manifest"):
        open_artifact(folder)


def test_a_model_that_answers_with_another_shape_is_refused(
    network: RestorationNetwork, artifact: Path, tmp_path: Path
) -> None:
    model = onnx.load(artifact / MODEL_FILE)
    half = next(node.output[0] for node in model.graph.node if node.op_type == "DepthToSpace")
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(half, onnx.TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / MODEL_FILE)
    with pytest.raises(ParityError, match="returns 1x16x2x2 for 1x3x8x8"):
        verify(network, tmp_path / MODEL_FILE)
