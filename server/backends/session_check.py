"""Checks that a loaded ONNX model matches its manifest."""

from typing import Any

from models.artifact import Manifest
from server.errors import BackendUnavailable


def check_session(session: Any, manifest: Manifest) -> None:
    """Compare the inputs and outputs of a session with the manifest; raises BackendUnavailable if they differ."""
    shapes: dict[str, tuple[object, ...]] = {manifest.output_name: manifest.input_shape}
    if prompt := manifest.prompt_output:
        shapes[prompt.name] = (manifest.input_shape[0], *prompt.shape)
    for kind, nodes, expected in (
        ("input", session.get_inputs(), {manifest.input_name: manifest.input_shape}),
        ("output", session.get_outputs(), shapes),
    ):
        sizes = manifest.size_inputs or () if kind == "input" else ()
        names, wanted = [node.name for node in nodes], [*expected, *sizes]
        if names != wanted:
            raise BackendUnavailable(f"the model's {kind}s are {names}, its manifest says {wanted}")
        for node in nodes[len(expected) :]:
            if node.type != "tensor(int64)" or len(node.shape) != 1:
                raise BackendUnavailable(f"the model's {kind} {node.name} is {node.type} {node.shape}, not int64 (N,)")
        for node in nodes[: len(expected)]:
            if node.type != "tensor(float)":
                raise BackendUnavailable(f"the model's {kind} {node.name} is {node.type} instead of tensor(float)")
            if not _shapes_agree(node.shape, expected[node.name], exact=kind == "input"):
                raise BackendUnavailable(
                    f"the model's {kind} {node.name} has shape {node.shape}, its manifest {expected[node.name]}"
                )


def _shapes_agree(found: list[int | str | None], expected: tuple[object, ...], *, exact: bool) -> bool:
    """Compare axis by axis: numbers must be equal, names must be free; tracing may lose an output's fixed sizes."""
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
