"""Tests of the CudaDevice: what its failures become."""

from typing import Any

import pytest

from server.backends.cuda_device import STICKY_ERRORS, CudaDevice
from server.errors import BackendError, BackendLost


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
    assert final <= STICKY_ERRORS
