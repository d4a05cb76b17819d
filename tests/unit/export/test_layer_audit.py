"""Tests of the layer audit: accepted tables and reported violations."""

from types import SimpleNamespace

import pytest

from export.layer_audit import audit, check_layer_types
from export.precision import PrecisionError, expected_by_layer

MIXED = {layer_type: {dtype: 3} for layer_type, dtype in expected_by_layer().items()}


def a_network(*layers: tuple[str, str]) -> SimpleNamespace:
    """Build the part of an `INetworkDefinition` that the audit reads."""

    def layer(index: int) -> SimpleNamespace:
        layer_type, dtype = layers[index]
        output = SimpleNamespace(dtype=SimpleNamespace(name=dtype))
        return SimpleNamespace(type=SimpleNamespace(name=layer_type), get_output=lambda _: output)

    return SimpleNamespace(num_layers=len(layers), get_layer=layer)


def test_layers_are_counted_by_type_and_dtype() -> None:
    network = a_network(("SOFTMAX", "FLOAT"), ("CAST", "HALF"), ("CAST", "FLOAT"), ("CAST", "HALF"))
    assert audit(network) == {"CAST": {"FLOAT": 1, "HALF": 2}, "SOFTMAX": {"FLOAT": 1}}


def test_the_table_of_a_mixed_network_passes() -> None:
    check_layer_types(MIXED | {"ELEMENTWISE": {"HALF": 1, "FLOAT": 1}}, "mixed")


@pytest.mark.parametrize(
    ("layer_type", "counts", "complaint"),
    [
        ("NORMALIZATION", {"HALF": 22}, "NORMALIZATION must be FLOAT, found 22 HALF"),
        ("SOFTMAX", {"FLOAT": 11, "HALF": 3}, "SOFTMAX must be FLOAT, found 11 FLOAT, 3 HALF"),
        ("CONVOLUTION", {"FLOAT": 82}, "CONVOLUTION must be HALF, found 82 FLOAT"),
        ("REDUCE", {}, "REDUCE must be FLOAT, found none"),
    ],
)
def test_one_layer_of_the_wrong_type_fails_a_mixed_network(
    layer_type: str, counts: dict[str, int], complaint: str
) -> None:
    with pytest.raises(PrecisionError, match=complaint):
        check_layer_types(MIXED | {layer_type: counts}, "mixed")


def test_a_half_layer_fails_an_fp32_network() -> None:
    check_layer_types({"CONVOLUTION": {"FLOAT": 3}, "SHAPE": {"INT64": 2}}, "fp32")
    with pytest.raises(PrecisionError, match="ELEMENTWISE must not be in half precision, found 2 FLOAT, 1 HALF"):
        check_layer_types({"ELEMENTWISE": {"FLOAT": 2, "HALF": 1}}, "fp32")
