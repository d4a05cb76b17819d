"""Precision table of mixed graphs: which parts run in float32, which in half precision, and why."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import onnx
from onnx import TensorProto

Dtype = Literal["FLOAT", "HALF"]
"""TensorRT's names; BF16 would replace HALF."""

ELEMENT_TYPES: dict[Dtype, int] = {"FLOAT": TensorProto.FLOAT, "HALF": TensorProto.FLOAT16}


@dataclass(frozen=True)
class Rule:
    """Data type of one part of the network, and the operators that identify the part in an exported graph."""

    part: str
    dtype: Dtype
    reason: str
    operators: tuple[str, ...] = ()
    """ONNX operators that occur only in this part."""
    layers: tuple[str, ...] = ()
    """`tensorrt.LayerType` members that the ONNX parser creates for them."""


RULES = (
    Rule(
        part="convolutions",
        dtype="HALF",
        reason="nearly all of the arithmetic; matrix units multiply in half and sum in float32",
        operators=("Conv",),
        layers=("CONVOLUTION",),
    ),
    Rule(
        part="matrix products",
        dtype="HALF",
        reason="q and k have length one before they are multiplied, so no logit exceeds 1",
        operators=("MatMul", "Gemm"),
        layers=("MATRIX_MULTIPLY",),
    ),
    Rule(
        part="LayerNorm",
        dtype="FLOAT",
        reason="the variance squares features: from 256 on a square overflows half, below 2e-4 it vanishes",
        operators=("LayerNormalization",),
        layers=("NORMALIZATION",),
    ),
    Rule(
        part="squared L2 norms of q and k",
        dtype="FLOAT",
        reason=(
            "sums over H*W exceed half's 65504 from 512x512 on; an infinite norm makes its row of attention uniform, "
            "without any NaN. The lower bound of 1e-24, which prevents 0/0 for a row of zeros, would round to 0"
        ),
        operators=("ReduceSum",),
        layers=("REDUCE",),
    ),
    Rule(
        part="global mean of the prompt",
        dtype="FLOAT",
        reason="also a sum over H*W; beyond 65504 every image would get the same prompt",
        operators=("ReduceMean",),
        layers=("REDUCE",),
    ),
    Rule(
        part="temperature and softmax of attention and prompt",
        dtype="FLOAT",
        reason="logits are small differences that a large temperature amplifies, and their exponentials are summed",
        operators=("Softmax",),
        layers=("SOFTMAX",),
    ),
    Rule(
        part="final residual",
        dtype="FLOAT",
        reason="the image must not lose its low bits: half would limit a perfect result to 80 dB",
    ),
)
"""Element-wise and data-movement operators occur in both types and follow their neighbours."""


def expected_by_operator() -> dict[str, Dtype]:
    """Return ONNX operator -> dtype of its outputs in a mixed graph."""
    return {operator: rule.dtype for rule in RULES for operator in rule.operators}


def expected_by_layer() -> dict[str, Dtype]:
    """Map the name of a `tensorrt.LayerType` to the dtype of its outputs, in the network parsed from a mixed graph."""
    return {layer: rule.dtype for rule in RULES for layer in rule.layers}


class PrecisionError(ValueError):
    """Mixed graph that violates the precision table; the message is one sentence for a user."""


def check_precision(model: onnx.ModelProto) -> None:
    """Check the inferred dtypes of a mixed graph against the table; `PrecisionError` names the first violations."""
    misplaced = list(_misplaced(onnx.shape_inference.infer_shapes(model).graph))
    if misplaced:
        shown = "; ".join(misplaced[:3])
        raise PrecisionError(f"{len(misplaced)} operators break the precision table: {shown}")


def _misplaced(graph: onnx.GraphProto) -> Iterator[str]:
    values = (*graph.value_info, *graph.input, *graph.output)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    expected = expected_by_operator()
    for node in graph.node:
        dtype = expected.get(node.op_type)
        if dtype is not None and found.get(node.output[0]) != ELEMENT_TYPES[dtype]:
            yield f"{node.op_type} {node.name!r} gives {_name(found.get(node.output[0]))} instead of {dtype}"
        if node.output[0] == graph.output[0].name:
            operands = [found.get(name) for name in node.input]
            if node.op_type != "Add" or any(operand != TensorProto.FLOAT for operand in operands):
                yield f"the output is a {node.op_type} of {', '.join(map(_name, operands))} instead of an Add of FLOAT"


def _name(element_type: int | None) -> str:
    return next((name for name, code in ELEMENT_TYPES.items() if code == element_type), "another dtype")
