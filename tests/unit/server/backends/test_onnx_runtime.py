"""Tests of the ONNX Runtime backend, on small models of known behaviour."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import FREE, IDENTITY_KERNEL, new_backend, onnx, started_backend, write_artifact

from models.artifact import MODEL_FILE
from server.backends.base import ModelInput
from server.backends.cuda_device import CudaDevice
from server.backends.onnx_providers import engine_key
from server.backends.onnx_runtime import OnnxBackend
from server.errors import BackendError, BackendLost, BackendUnavailable, DeviceOutOfMemory

pytest.importorskip("onnxruntime", reason="runs its models with onnxruntime")

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return partial(write_artifact, tmp_path)


def _wide_model(channels: int) -> bytes:
    """An identity whose middle has so many channels that a run's memory can be seen in the process."""
    there = np.zeros((channels, 3, 1, 1), np.float32)
    there[:3] = IDENTITY_KERNEL
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["input", "there"], ["middle"]),
            onnx.helper.make_node("Conv", ["middle", "back"], ["output"]),
        ],
        "wide",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, FREE)],
        [onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, FREE)],
        [
            onnx.numpy_helper.from_array(there, "there"),
            onnx.numpy_helper.from_array(np.ascontiguousarray(there.transpose(1, 0, 2, 3)), "back"),
        ],
    )
    opset = onnx.helper.make_opsetid("", 17)
    serialized: bytes = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
    return serialized


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (3, 3, 16, 8), (2, 3, 8, 40)])
def test_it_runs_any_batch_and_size(make: Make, shape: tuple[int, ...]) -> None:
    batch = np.random.default_rng(1).random(shape, np.float32)
    output = started_backend(make()).run(ModelInput(batch)).pixels
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, batch, atol=1e-6)


def test_it_says_what_it_serves(make: Make) -> None:
    info = new_backend(make()).start()
    assert (info.backend, info.device, info.model.name, info.model.precision) == ("onnx", "cpu", "identity", "fp32")
    assert (info.model.size_multiple, info.max_batch) == (8, 4)


def test_a_missing_artifact_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="nowhere"):
        new_backend(tmp_path / "nowhere").start()


def test_a_model_that_was_changed_is_refused(make: Make) -> None:
    artifact = make()
    with (artifact / MODEL_FILE).open("ab") as model:
        model.write(b"\0")
    with pytest.raises(BackendUnavailable, match="sha256"):
        started_backend(artifact)


def test_a_file_that_is_no_model_is_refused(make: Make) -> None:
    with pytest.raises(BackendUnavailable, match="onnxruntime cannot load"):
        started_backend(make(content=b"not a model"))


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        ({"input_name": "image"}, r"inputs are \['image'\], its manifest says \['input'\]"),
        ({"output_name": "image"}, r"outputs are \['image'\], its manifest says \['output'\]"),
        ({"shape": ("n", 3, 64, "w")}, r"input has shape \['n', 3, 64, 'w'\]"),
        ({"shape": (1, 3, "h", "w")}, r"input has shape \[1, 3, 'h', 'w'\]"),
        ({"shape": ("n", 3, "h")}, r"input has shape \['n', 3, 'h'\]"),
        ({"shape": ("n", "c", "h", "w")}, r"input has shape \['n', 'c', 'h', 'w'\]"),
        ({"kernel": np.zeros((4, 3, 1, 1))}, r"output has shape \['n', 4, 'h', 'w'\]"),
        ({"element": onnx.TensorProto.FLOAT16}, r"input is tensor\(float16\)"),
    ],
    ids=["input name", "output name", "fixed height", "fixed batch", "rank", "free channels", "channels out", "type"],
)
def test_a_session_unlike_its_manifest_is_refused(make: Make, difference: dict[str, Any], words: str) -> None:
    if difference.get("shape") == ("n", 3, "h"):
        difference["kernel"] = np.zeros((3, 3, 1))
    with pytest.raises(BackendUnavailable, match=words):
        started_backend(make(**difference))


def test_a_run_that_fails_is_a_backend_error_and_the_next_one_goes_well(make: Make) -> None:
    backend = started_backend(make())
    with pytest.raises(BackendError, match=r"\(1, 4, 8, 8\)"):
        backend.run(ModelInput(np.zeros((1, 4, 8, 8), np.float32)))
    assert backend.run(ModelInput(np.ones((1, 3, 8, 8), np.float32))).pixels.shape == (1, 3, 8, 8)


# In a process of its own: what the tests before have left on the heap would serve the large run.
MEMORY_OF_RUNS = """
import os, sys
from pathlib import Path
import numpy as np
from server.backends.base import ModelInput
from server.backends.onnx_runtime import OnnxBackend, OnnxSettings

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

backend = OnnxBackend(OnnxSettings(artifact=Path(sys.argv[1]), threads=1), 8)
backend.start()
backend.run(ModelInput(np.zeros((1, 3, 8, 8), np.float32)))  # the warm-up: onnxruntime keeps what the first run took
backend.run(ModelInput(np.zeros((1, 3, 512, 512), np.float32)))
after_large = resident_bytes()
backend.run(ModelInput(np.zeros((1, 3, 8, 8), np.float32)))
print(after_large - resident_bytes())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the resident memory from /proc")
def test_the_memory_of_a_large_run_is_given_back_by_the_next_small_one(make: Make) -> None:
    channels = 64
    artifact = make(content=_wide_model(channels))
    command = [sys.executable, "-c", MEMORY_OF_RUNS, str(artifact)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    widest_tensor_bytes = channels * 512 * 512 * 4
    assert int(ended.stdout) > widest_tensor_bytes / 2


def test_without_a_start_or_after_the_stop_it_does_not_run(make: Make) -> None:
    backend = new_backend(make())
    backend.stop()
    for _ in range(2):
        with pytest.raises(BackendError, match="not started"):
            backend.run(ModelInput(np.zeros((1, 3, 8, 8), np.float32)))
        backend.start()
        backend.stop()


@pytest.mark.parametrize("shapes", [[(1, 3, 8, 8)] * 3, [(2, 3, 8, 16), (1, 3, 8, 8), (2, 3, 8, 16)]])
def test_a_bound_run_answers_like_a_plain_one(make: Make, shapes: list[tuple[int, ...]]) -> None:
    backend = started_backend(make())
    outputs = []
    for seed, shape in enumerate(shapes):
        batch = np.random.default_rng(seed).random(shape, np.float32)
        outputs.append(backend._run_bound(backend._session, batch, "cpu").pixels)
        np.testing.assert_allclose(outputs[-1], batch, atol=1e-6)
    # Each answer is its own: a later run does not write into it.
    np.testing.assert_allclose(outputs[0], np.random.default_rng(0).random(shapes[0], np.float32), atol=1e-6)


def test_running_out_of_memory_is_told_apart(make: Make) -> None:
    class Full:
        def run(self, *_: Any) -> Any:
            raise RuntimeError("bfc_arena.cc: Failed to allocate memory for requested buffer of size 1073741824")

    backend = started_backend(make())
    backend._session = Full()
    with pytest.raises(DeviceOutOfMemory, match=r"\(2, 3, 8, 8\)"):
        backend.run(ModelInput(np.zeros((2, 3, 8, 8), np.float32)))


@pytest.mark.parametrize(("fault", "kind"), [(700, BackendLost), (1, BackendError), (0, BackendError)])
def test_a_device_that_failed_for_good_is_told_from_a_run_that_failed(
    make: Make, cuda: Any, monkeypatch: pytest.MonkeyPatch, fault: int, kind: type[BackendError]
) -> None:
    cuda.fault = fault
    backend = started_backend(make())
    monkeypatch.setattr(OnnxBackend, "_on_device", True)
    monkeypatch.setattr(backend, "_run_bound", lambda *_: 1 / 0)  # onnxruntime's exceptions have no codes
    monkeypatch.setattr("server.backends.onnx_runtime.open_device", lambda index: CudaDevice(cuda, index))
    with pytest.raises(BackendError) as caught:
        backend.run(ModelInput(np.zeros((1, 3, 8, 8), np.float32)))
    assert type(caught.value) is kind


def test_engines_are_kept_apart_by_device_version_and_model() -> None:
    key = engine_key("NVIDIA H100 80GB HBM3", "1.30.0", "ab" * 32)
    others = [
        engine_key("NVIDIA L4", "1.30.0", "ab" * 32),
        engine_key("NVIDIA H100 80GB HBM3", "1.31.0", "ab" * 32),
        engine_key("NVIDIA H100 80GB HBM3", "1.30.0", "cd" * 32),
    ]
    assert key == "nvidia-h100-80gb-hbm3-ort1.30.0-abababababababab"
    assert len({key, *others}) == 4
