"""Tests of the precision table and of the check of graphs against it."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from export.precision import RULES, PrecisionError, check_precision, expected_by_layer, expected_by_operator
from models.artifact import MODEL_FILE


def one_operator(operator: str, inputs: dict[str, tuple[int, ...]], dtype: int) -> onnx.ModelProto:
    """Build a model that computes `operator` in `dtype` and adds the result to its float32 image."""
    shape = inputs["image"]
    nodes = [helper.make_node("Cast", [name], [f"{name}_cast"], to=dtype) for name in inputs]
    nodes.append(helper.make_node(operator, [f"{name}_cast" for name in inputs], ["made"], name="the_node"))
    nodes.append(helper.make_node("Cast", ["made"], ["wide"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Add", ["wide", "image"], ["restored"], name="residual"))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info("restored", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


IMAGE = {"image": (4, 4)}
OPERATORS = [
    ("MatMul", IMAGE | {"other": (4, 4)}, TensorProto.FLOAT16),
    ("LayerNormalization", IMAGE | {"scale": (4,)}, TensorProto.FLOAT),
    ("ReduceSum", IMAGE, TensorProto.FLOAT),
    ("ReduceMean", IMAGE, TensorProto.FLOAT),
    ("Softmax", IMAGE, TensorProto.FLOAT),
]


@pytest.mark.parametrize(("operator", "inputs", "right"), OPERATORS)
def test_an_operator_passes_in_its_own_dtype_only(
    operator: str, inputs: dict[str, tuple[int, ...]], right: int
) -> None:
    wrong = TensorProto.FLOAT if right == TensorProto.FLOAT16 else TensorProto.FLOAT16
    check_precision(one_operator(operator, inputs, right))
    with pytest.raises(PrecisionError, match=rf"^1 operators .*{operator} 'the_node' gives \w+ instead of \w+$"):
        check_precision(one_operator(operator, inputs, wrong))


def test_a_residual_added_in_half_is_found() -> None:
    model = one_operator("Softmax", IMAGE, TensorProto.FLOAT)
    wide, residual = model.graph.node[-2:]
    wide.attribute[0].i = TensorProto.FLOAT16
    residual.input[1] = "image_half"
    residual.output[0] = "sum"
    model.graph.node.insert(0, helper.make_node("Cast", ["image"], ["image_half"], to=TensorProto.FLOAT16))
    model.graph.node.append(helper.make_node("Cast", ["sum"], ["restored"], to=TensorProto.FLOAT))
    with pytest.raises(PrecisionError, match="the output is a Cast of HALF instead of an Add of FLOAT"):
        check_precision(model)


def test_the_mixed_artifact_keeps_the_table_and_the_float32_one_does_not(artifact: Path, mixed_artifact: Path) -> None:
    check_precision(onnx.load(mixed_artifact / MODEL_FILE))
    with pytest.raises(PrecisionError, match=r"Conv .* gives FLOAT instead of HALF"):
        check_precision(onnx.load(artifact / MODEL_FILE))


def test_the_network_holds_every_operator_of_the_table(mixed_artifact: Path) -> None:
    present = {node.op_type for node in onnx.load(mixed_artifact / MODEL_FILE).graph.node}
    assert expected_by_operator().keys() <= present


def test_every_rule_has_a_reason_and_no_operator_or_layer_two_dtypes() -> None:
    assert all(rule.reason for rule in RULES)
    for names, expected in (("operators", expected_by_operator()), ("layers", expected_by_layer())):
        for rule in RULES:
            assert {expected[name] for name in getattr(rule, names)} <= {rule.dtype}


def test_the_islands_are_in_float32() -> None:
    table = expected_by_layer()
    assert {layer for layer, dtype in table.items() if dtype == "FLOAT"} == {"NORMALIZATION", "REDUCE", "SOFTMAX"}
    assert {layer for layer, dtype in table.items() if dtype == "HALF"} == {"CONVOLUTION", "MATRIX_MULTIPLY"}
