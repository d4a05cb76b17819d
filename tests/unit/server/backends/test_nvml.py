"""Tests of the readings of GPUs, with a stand-in for NVML: what it answers is what the bindings of 13.x answer."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from server.backends.nvml import gpu_readers
from server.metrics import GpuReading


class Error(Exception):
    """As `pynvml.NVMLError`, the root of all it raises."""


class Nvml:
    """Two GPUs, of which NVML counts first the one that CUDA counts second."""

    NVMLError = Error

    def __init__(self, cannot: tuple[str, ...] = ()) -> None:
        self.cannot = cannot

    def __getattribute__(self, name: str) -> Any:
        if name in object.__getattribute__(self, "cannot" if name != "cannot" else "__dict__"):
            return self.refuse
        return object.__getattribute__(self, name)

    def refuse(self, *arguments: object) -> None:
        raise Error("Not Supported")

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's own names
        """The driver is there."""

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetHandleByPciBusId(self, bus_id: bytes) -> int:  # noqa: N802
        return {b"0000:65:00.0": 0, b"0000:ca:00.0": 1}[bus_id]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(total=80 * 2**30, used=(handle + 1) * 2**30, free=0)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=50 + handle, memory=7)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        return 300_500 + handle

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:  # noqa: N802
        return 123_456_789 + handle


def bus_ids(*ids: str) -> Callable[[int], str | None]:
    return lambda index: ids[index] if ids else None


def test_a_reading_is_in_base_units() -> None:
    read = gpu_readers(["cuda:0"], Nvml(), bus_ids())["cuda:0"]
    assert read() == GpuReading(2**30, 80 * 2**30, 0.5, 300.5, 123456.789)


def test_a_device_is_found_by_its_place_on_the_bus_and_not_by_its_number() -> None:
    readers = gpu_readers(["cuda:0", "cuda:1"], Nvml(), bus_ids("0000:ca:00.0", "0000:65:00.0"))
    used = {device: read().memory_used_bytes for device, read in readers.items()}
    assert used == {"cuda:0": 2 * 2**30, "cuda:1": 2**30}


@pytest.mark.parametrize(
    ("function", "untold"),
    [
        ("nvmlDeviceGetUtilizationRates", {"utilization_ratio"}),
        ("nvmlDeviceGetTotalEnergyConsumption", {"energy_joules"}),
        ("nvmlDeviceGetMemoryInfo", {"memory_bytes", "memory_used_bytes"}),
    ],
)
def test_what_a_gpu_does_not_tell_is_left_out(function: str, untold: set[str]) -> None:
    reading = gpu_readers(["cuda:0"], Nvml((function,)), bus_ids())["cuda:0"]()
    assert {name for name, value in vars(reading).items() if value is None} == untold


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetHandleByIndex"])
def test_without_a_driver_or_the_gpu_there_is_nothing_to_read(function: str) -> None:
    assert gpu_readers(["cuda:0"], Nvml((function,)), bus_ids()) == {}


def test_the_installed_library_on_a_machine_without_a_gpu_is_no_error() -> None:
    pynvml = pytest.importorskip("pynvml")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert gpu_readers(["cuda:0"]) == {}
    else:
        pytest.skip("there is a GPU")


def test_no_library_is_asked_where_no_device_is_a_gpu() -> None:
    assert gpu_readers(["cpu:0", "sim:0"], object()) == {}
