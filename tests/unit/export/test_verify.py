"""The parity gate: what passes it and what does not."""

import copy
from pathlib import Path

import onnx
import pytest
import torch

from export.shapes import VERIFICATION_SHAPES
from export.verify import ParityError, verify
from models.artifact import MODEL_FILE
from models.promptir import PromptIR


def test_every_verification_shape_is_measured(network: PromptIR, artifact: Path) -> None:
    parity = verify(network, artifact / MODEL_FILE)
    assert tuple(entry.shape for entry in parity) == VERIFICATION_SHAPES


def test_a_model_of_slightly_other_weights_is_refused(network: PromptIR, artifact: Path) -> None:
    other = copy.deepcopy(network)
    with torch.inference_mode():
        other.output.weight[0, 0, 0, 0] += 0.01
    with pytest.raises(ParityError, match=r"is off by .* at \(1, 3, 8, 8\); the tolerance is 1e-04"):
        verify(other, artifact / MODEL_FILE)


def test_the_tolerance_is_the_callers(network: PromptIR, artifact: Path) -> None:
    with pytest.raises(ParityError, match="the tolerance is 1e-12"):
        verify(network, artifact / MODEL_FILE, tolerance=1e-12)


def test_a_model_that_answers_with_another_shape_is_refused(network: PromptIR, artifact: Path, tmp_path: Path) -> None:
    model = onnx.load(artifact / MODEL_FILE)
    half = next(node.output[0] for node in model.graph.node if node.op_type == "DepthToSpace")
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(half, onnx.TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / MODEL_FILE)
    with pytest.raises(ParityError, match=r"answers \(1, 3, 8, 8\) with shape"):
        verify(network, tmp_path / MODEL_FILE)
