"""Audit of the layer data types of a parsed network against the precision table."""

from collections import Counter
from typing import Any

from export.precision import PrecisionError, expected_by_layer
from models.artifact import Precision
from models.plan_manifest import LayerTypes

HALF_PRECISION = frozenset({"HALF", "BF16"})


def audit(network: Any) -> LayerTypes:
    """Count the layers of an `INetworkDefinition` by layer type and by data type of their first output.

    In a strongly typed network layers run in this type, because the builder may not choose another.
    """
    table: dict[str, Counter[str]] = {}
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        table.setdefault(layer.type.name, Counter())[layer.get_output(0).dtype.name] += 1
    return {layer_type: dict(sorted(table[layer_type].items())) for layer_type in sorted(table)}


def check_layer_types(table: LayerTypes, precision: Precision) -> None:
    """Check an audited table against the precision of its artifact; raise `PrecisionError` listing all violations."""
    if precision == "mixed":
        wrong = [
            f"{layer_type} must be {expected}, found {_counts(table.get(layer_type, {}))}"
            for layer_type, expected in expected_by_layer().items()
            if set(table.get(layer_type, {})) != {expected}
        ]
    else:
        wrong = [
            f"{layer_type} must not be in half precision, found {_counts(counts)}"
            for layer_type, counts in table.items()
            if HALF_PRECISION & counts.keys()
        ]
    if wrong:
        raise PrecisionError(f"the parsed network breaks the {precision} precision: {'; '.join(wrong)}")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {dtype}" for dtype, count in counts.items()) or "none"
