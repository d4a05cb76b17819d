"""Small ONNX models of known behaviour, and backends that run them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact import MODEL_FILE, Manifest, Parity, sha256_of
from server.backends.onnx_runtime import OnnxBackend, OnnxSettings

onnx = pytest.importorskip("onnx", reason="writes its models with onnx")
IDENTITY_KERNEL = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
FREE = ("n", 3, "h", "w")


def serialized_model(
    input_name: str, output_name: str, shape: tuple[Any, ...], element: int, kernel: np.ndarray
) -> bytes:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(element)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", [input_name, "kernel"], [output_name])],
        "identity",
        [onnx.helper.make_tensor_value_info(input_name, element, shape)],
        [onnx.helper.make_tensor_value_info(output_name, element, (shape[0], len(kernel), *shape[2:]))],
        [onnx.numpy_helper.from_array(kernel.astype(dtype), "kernel")],
    )
    opset = onnx.helper.make_opsetid("", 17)
    serialized: bytes = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    return serialized


def started_backend(artifact: Path) -> OnnxBackend:
    backend = new_backend(artifact)
    backend.start()
    return backend


def new_backend(artifact: Path, *providers: str, device: str | None = None, **settings: Any) -> OnnxBackend:
    given = {"threads": 1} | ({"onnx_providers": providers} if providers else {}) | settings
    return OnnxBackend(OnnxSettings(artifact=artifact, **given), max_batch=4, device=device)


def write_artifact(
    folder: Path,
    input_name: str = "input",
    output_name: str = "output",
    shape: tuple[Any, ...] = FREE,
    element: int = onnx.TensorProto.FLOAT,
    kernel: np.ndarray = IDENTITY_KERNEL,
    content: bytes | None = None,
) -> Path:
    """Write an artifact whose manifest says input, output and (n, 3, h, w), whatever the model in it is."""
    model = folder / MODEL_FILE
    model.write_bytes(serialized_model(input_name, output_name, shape, element, kernel) if content is None else content)
    manifest = Manifest(
        name="identity",
        variant="none",
        input_name="input",
        output_name="output",
        input_shape=FREE,
        size_multiple=8,
        precision="fp32",
        opset=17,
        sha256=sha256_of(model),
        parameters=9,
        parity=(Parity(shape=(1, 3, 8, 8), max_abs_error=0.0),),
        exporter={"onnx": onnx.__version__},
    )
    manifest.save(folder)
    return folder
