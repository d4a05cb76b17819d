"""Tests of the CudaDevice, on a CUDA runtime of host memory."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from server.backends.cuda_device import STICKY_FAULTS, CudaDevice, open_device
from server.errors import BackendError, BackendLost, BackendUnavailable, DeviceOutOfMemory


def test_everything_called_of_the_cuda_runtime_exists_in_the_real_one(cuda: Any) -> None:
    real = pytest.importorskip("cuda.bindings.runtime", reason="compares with the CUDA runtime's own bindings")
    names = [name for name in dir(cuda) if name.startswith("cuda")]
    assert len(names) > 15
    assert [name for name in names if not hasattr(real, name)] == []
    assert real.cudaMemcpyKind.cudaMemcpyHostToDevice
    assert real.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal


def test_a_cuda_error_is_said_in_the_runtimes_words(cuda: Any) -> None:
    device = CudaDevice(cuda)
    with pytest.raises(BackendError, match="cudaFree failed: error number 1"):
        device.free(12345)
    cuda.room = 0
    with pytest.raises(DeviceOutOfMemory):
        device.allocate(1)
    assert cuda.calls.count("cudaGetLastError") == 2


def test_a_fault_that_leaves_no_context_is_the_loss_of_the_device(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    device = CudaDevice(cuda, 1)
    monkeypatch.setattr(cuda, "cudaFree", lambda _: (700,))
    with pytest.raises(BackendLost, match="cuda:1 is lost: cudaFree failed") as caught:
        device.free(12345)
    assert caught.value.for_good


def test_a_device_is_opened_by_its_number(cuda: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(runtime=cuda))
    chosen: list[int] = []
    flags: list[int] = []
    monkeypatch.setattr(cuda, "cudaSetDeviceFlags", lambda value: flags.append(value) or (0,), raising=False)
    monkeypatch.setattr(cuda, "cudaGetDeviceCount", lambda: (0, 2), raising=False)
    monkeypatch.setattr(cuda, "cudaSetDevice", lambda index: chosen.append(index) or (0,), raising=False)
    open_device(1)
    assert chosen == [1]
    assert flags == [cuda.cudaDeviceScheduleBlockingSync]
    with pytest.raises(BackendUnavailable, match="there is no cuda:2: the last of this machine's GPUs is cuda:1"):
        open_device(2)


@pytest.mark.parametrize(("fault", "kind"), [(700, BackendLost), (214, BackendLost), (1, BackendError)])
def test_only_an_error_that_ends_the_context_loses_the_device(cuda: Any, fault: int, kind: type[BackendError]) -> None:
    cuda.fault = fault
    with pytest.raises(BackendError, match=f"cudaDeviceSynchronize.*error number {fault}") as caught:
        CudaDevice(cuda).check()
    assert type(caught.value) is kind


def test_a_device_that_works_passes_the_check(cuda: Any) -> None:
    CudaDevice(cuda).check()


def test_every_error_that_cuda_calls_final_is_known_here() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="reads what NVIDIA's bindings say of each error")
    final = {int(error) for error in runtime.cudaError_t if "relaunch" in (error.__doc__ or "")}
    assert final
    assert final <= STICKY_FAULTS
