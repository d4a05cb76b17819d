"""Tests of the TensorRT backend: a library made for them on a device that is host memory, and the real bindings."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.artifact import sha256_of
from models.plan_manifest import PLAN_FILE, PlanManifest
from server.backends import tensorrt_plan
from server.backends.base import ModelInput
from server.backends.cuda_device import CudaDevice
from server.backends.settings import RuntimeSettings
from server.backends.tensorrt_plan import RUNTIME_CACHE_FILE, PlanBackend
from server.errors import BackendError, BackendUnavailable

MakePlan = Callable[..., Path]
SCRATCH_BYTES = 4096


class Library(ModuleType):
    """As much of TensorRT as the backend calls; `engine` is what a plan becomes, None where it cannot be read."""

    def __init__(self, name: str, version: str, new_context: Callable[[], Any]) -> None:
        super().__init__(name)
        self.__version__ = version
        self.float32, self.float16, self.int64 = "float32", "float16", "int64"
        self.said: list[str] = []
        self.contexts: list[Any] = []
        self.new_context = new_context
        self.ILogger = type("ILogger", (), {"ERROR": 1, "INTERNAL_ERROR": 0})
        self.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")
        self.engine: Any = SimpleNamespace(
            num_io_tensors=2,
            get_tensor_name=["image", "restored"].__getitem__,
            get_tensor_dtype={"image": "float32", "restored": "float32"}.__getitem__,
            num_optimization_profiles=1,
            device_memory_size_v2=SCRATCH_BYTES,
            create_execution_context=self._create_context,
            create_runtime_config=self._create_config,
        )

    def Runtime(self, logger: Any) -> Any:  # noqa: N802 - TensorRT's own name
        def deserialize(_: bytes) -> Any:
            for line in self.said:
                logger.log(1, line)
            return self.engine

        return SimpleNamespace(deserialize_cuda_engine=deserialize)

    def _create_context(self, strategy: Any) -> Any:
        context = self.new_context()
        context.strategy = strategy
        context.set_optimization_profile_async = lambda index, stream: True
        context.set_device_memory = lambda address, size: setattr(context, "scratch", (address, size))
        self.contexts.append(context)
        return context

    def _create_config(self) -> Any:
        config = SimpleNamespace(kernels=None)
        config.set_execution_context_allocation_strategy = lambda strategy: None
        config.create_runtime_cache = lambda: Kernels()
        config.set_runtime_cache = lambda kernels: setattr(config, "kernels", kernels)
        return config


class Kernels:
    """TensorRT-RTX's runtime cache."""

    def __init__(self) -> None:
        self.content = b"made here"

    def serialize(self) -> bytes:
        return self.content

    def deserialize(self, blob: bytes) -> bool:
        self.content = b"restored " + blob
        return True


@pytest.fixture
def device(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    cuda.cudaGetDeviceProperties = lambda _: (0, SimpleNamespace(name=b"Test GPU", major=9, minor=0))
    monkeypatch.setattr(tensorrt_plan, "open_device", lambda index=0: CudaDevice(cuda, index))
    return cuda


@pytest.fixture
def library(new_context: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library("tensorrt", "11.4.0", new_context)
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    return library


@pytest.fixture
def rtx(new_context: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library("tensorrt_rtx", "1.7.1.116", new_context)
    library.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole graph")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", library)
    return library


@pytest.fixture
def plan(plan_manifest: Callable[..., PlanManifest], tmp_path: Path) -> MakePlan:
    def make(**fields: Any) -> Path:
        (tmp_path / PLAN_FILE).write_bytes(b"a plan")
        known = {"flavour": "tensorrt", "tensorrt_version": "11.4.0", "sha256": sha256_of(tmp_path / PLAN_FILE)}
        plan_manifest(**(known | fields)).save(tmp_path)
        return tmp_path

    return make


def backend_of(folder: Path, **settings: Any) -> PlanBackend:
    return PlanBackend(RuntimeSettings(backend="tensorrt", artifact=folder, **settings), max_batch=8)


def refusal_of(folder: Path) -> str:
    with pytest.raises(BackendUnavailable) as caught:
        backend_of(folder).start()
    return caught.value.detail


def test_it_serves_a_plan_and_says_what_it_serves(device: Any, library: Library, plan: MakePlan) -> None:
    backend = backend_of(plan())
    info = backend.start()
    assert (info.backend, info.device, info.model.name, info.model.precision) == (
        "tensorrt",
        "Test GPU",
        "tiny",
        "mixed",
    )
    assert (info.model.size_multiple, info.max_batch, info.can_repeat_in_fp32) == (8, 4, False)
    batch = np.random.default_rng(1).random((2, 3, 16, 8), np.float32)
    np.testing.assert_array_equal(backend.run(ModelInput(batch)).pixels, batch + 1)
    backend.stop()
    assert (device.on_device, device.pinned) == ({}, {})


def test_a_plan_for_mixed_sizes_says_so_and_is_refused_with_sizes_of_another_type(
    device: Any, library: Library, plan: MakePlan
) -> None:
    folder = plan(size_inputs=("height", "width"))
    types = {"image": "float32", "restored": "float32", "height": "int64", "width": "int64"}
    library.engine.num_io_tensors = len(types)
    library.engine.get_tensor_name = list(types).__getitem__
    library.engine.get_tensor_dtype = types.__getitem__
    backend = backend_of(folder)
    assert backend.start().model.mixed_sizes
    padded_shape, sizes = np.zeros((2, 3, 16, 8), np.float32), np.array([(16, 8), (8, 8)], np.int64)
    np.testing.assert_array_equal(backend.run(ModelInput(padded_shape, sizes)).pixels[:, 0, 0, 0], [16009, 8009])
    backend.stop()
    assert (device.on_device, device.pinned) == ({}, {})
    types["width"] = "float32"
    assert "the plan's width is float32 instead of int64" in refusal_of(folder)


def test_the_contexts_of_all_profiles_share_one_block_of_scratch_memory(
    device: Any, library: Library, plan: MakePlan
) -> None:
    profile = {"min": (1, 8, 8), "opt": (1, 64, 64), "max": (4, 128, 128)}
    library.engine.num_optimization_profiles = 3
    backend_of(plan(profiles=(profile,) * 3)).start()
    assert len(library.contexts) == 3
    assert len({context.scratch for context in library.contexts}) == 1
    assert {context.strategy for context in library.contexts} == {"user managed"}
    assert device.used() == SCRATCH_BYTES


def test_without_a_start_or_after_the_stop_it_does_not_run(device: Any, library: Library, plan: MakePlan) -> None:
    backend = backend_of(plan())
    backend.stop()
    for _ in range(2):
        with pytest.raises(BackendError, match="not started"):
            backend.run(ModelInput(np.zeros((1, 3, 8, 8), np.float32)))
        backend.start()
        backend.stop()


def test_a_missing_library_is_said(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert "TensorRT is not installed; install the package tensorrt" in refusal_of(plan())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"flavour": "tensorrt_rtx"}, "built by tensorrt_rtx 11.4.0 and cannot be read by tensorrt 11.4.0"),
        ({"tensorrt_version": "10.13.0"}, "cannot be read by version 11.4.0; build it again here"),
        ({"compute_capability": "8.9", "device": "NVIDIA L4"}, "built on NVIDIA L4 .* cannot run on compute capab"),
        ({"sha256": "1" * 64}, "does not match its manifest"),
    ],
    ids=["flavour", "version", "device", "hash"],
)
@pytest.mark.usefixtures("device", "library")
def test_a_plan_for_something_else_is_refused(plan: MakePlan, fields: dict[str, str], words: str) -> None:
    with pytest.raises(BackendUnavailable, match=words):
        backend_of(plan(**fields)).start()


@pytest.mark.usefixtures("device")
def test_a_plan_that_the_library_cannot_read_is_refused_with_the_librarys_words(
    library: Library, plan: MakePlan
) -> None:
    library.engine, library.said = None, ["serialization magic tag mismatch"]
    assert "serialization magic tag mismatch" in refusal_of(plan())


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("get_tensor_name", ["image", "other"].__getitem__, r"tensors are \['image', 'other'\]"),
        ("get_tensor_dtype", {"image": "float16", "restored": "float32"}.__getitem__, "image is float16"),
        ("num_optimization_profiles", 2, "has 2 profiles, its manifest 1"),
    ],
)
@pytest.mark.usefixtures("device")
def test_an_engine_unlike_its_manifest_is_refused(
    library: Library, plan: MakePlan, attribute: str, value: Any, words: str
) -> None:
    setattr(library.engine, attribute, value)
    with pytest.raises(BackendUnavailable, match=words):
        backend_of(plan()).start()


def test_a_plan_that_is_too_large_for_the_device_says_so_and_leaves_nothing_behind(
    device: Any, library: Library, plan: MakePlan
) -> None:
    library.engine.device_memory_size_v2 = 3 * 2**30
    assert "needs 3.0 GiB for its largest profile" in refusal_of(plan())
    assert device.on_device == {}


def test_a_machine_without_a_gpu_is_said(library: Library, plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="asks the CUDA runtime itself")
    no_device = (runtime.cudaError_t.cudaErrorNoDevice, 0)
    monkeypatch.setattr(runtime, "cudaGetDeviceCount", lambda: no_device)
    assert "no usable NVIDIA GPU or driver on this machine (cudaErrorNoDevice)" in refusal_of(plan())


def test_missing_cuda_bindings_are_said(library: Library, plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    assert "cuda-bindings is not installed" in refusal_of(plan())


def test_the_kernels_that_rtx_made_are_kept_beside_the_plan_and_restored(
    device: Any, rtx: Library, plan: MakePlan
) -> None:
    folder = plan(flavour="tensorrt_rtx", tensorrt_version="1.7.1.116")
    backend = backend_of(folder)
    backend.start()
    config = rtx.contexts[0].strategy
    assert (config.cuda_graph_strategy, config.kernels.content) == ("whole graph", b"made here")
    for _ in range(4):
        backend.run(ModelInput(np.zeros((1, 3, 8, 8), np.float32)))
    assert "cudaStreamBeginCapture" not in device.calls  # RTX records by itself
    backend.stop()
    assert (folder / RUNTIME_CACHE_FILE).read_bytes() == b"made here"
    backend_of(folder).start()
    assert rtx.contexts[1].strategy.kernels.content == b"restored made here"


@pytest.mark.usefixtures("device", "rtx")
def test_kernels_that_cannot_be_kept_do_not_stop_the_stop(
    plan: MakePlan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    occupied = tmp_path / "occupied"
    occupied.write_bytes(b"")
    backend = backend_of(plan(flavour="tensorrt_rtx", tensorrt_version="1.7.1.116"), cache_folder=occupied)
    backend.start()
    backend.stop()
    assert "compiled kernels are not kept" in caplog.text


@pytest.mark.usefixtures("device")
def test_the_real_rtx_library_refuses_what_is_no_plan(plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pytest.importorskip("tensorrt_rtx", reason="asks TensorRT-RTX itself")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    detail = refusal_of(plan(flavour="tensorrt_rtx", tensorrt_version=real.__version__))
    assert "TensorRT cannot read the plan" in detail or "no usable NVIDIA GPU" in detail
