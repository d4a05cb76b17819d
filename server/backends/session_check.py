"""The session check: whether an ONNX model takes and gives what its manifest says."""

from typing import Any

from models.artifact import Manifest
from server.errors import BackendUnavailable


def check_session(session: Any, manifest: Manifest) -> None:
    """Raise BackendUnavailable where the session's inputs or outputs are not those of the manifest."""
    expected_shape = tuple(manifest.input_shape)
    for kind, nodes, expected_name in (
        ("input", session.get_inputs(), manifest.input_name),
        ("output", session.get_outputs(), manifest.output_name),
    ):
        names = [node.name for node in nodes]
        expected_names = [expected_name, *(manifest.size_inputs or ())] if kind == "input" else [expected_name]
        if names != expected_names:
            raise BackendUnavailable(f"the model's {kind}s are {names}, its manifest says {expected_names}")
        if nodes[0].type != "tensor(float)":
            raise BackendUnavailable(f"the model's {kind} is {nodes[0].type} instead of tensor(float)")
        if not _shapes_agree(nodes[0].shape, expected_shape, exact=kind == "input"):
            raise BackendUnavailable(f"the model's {kind} has shape {nodes[0].shape}, its manifest {expected_shape}")
        for node in nodes[1:]:
            if node.type != "tensor(int64)" or len(node.shape) != 1:
                raise BackendUnavailable(f"the model's {kind} {node.name} is {node.type} {node.shape}, not int64 (N,)")


def _shapes_agree(found: list[int | str | None], expected: tuple[object, ...], *, exact: bool) -> bool:
    """Compare axis by axis: a number must be equal, a name must be free; tracing may lose an output's fixed sizes."""
    if len(found) != len(expected):
        return False
    for got, wanted in zip(found, expected, strict=True):
        fixed = isinstance(got, int)
        if isinstance(wanted, int):
            if (fixed and got != wanted) or (exact and not fixed):
                return False
        elif fixed:
            return False
    return True
