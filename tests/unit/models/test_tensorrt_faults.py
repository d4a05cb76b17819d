"""Tests of the explanations of TensorRT's exceptions and log lines."""

import pytest

from models.tensorrt_faults import creation_fault, device_fault, import_fault, plan_fault

DRIVER_TOO_OLD = (
    "IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime (In ScopedCudaStream at cudaResources.cpp:25 "
    "(cudaError 35: CUDA driver version is insufficient for CUDA runtime version))"
)
WRONG_VERSION = "Error Code 1: Serialization (Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.)"


def test_a_missing_package_is_told_from_a_missing_library() -> None:
    missing_package = import_fault(ModuleNotFoundError("No module named 'tensorrt_rtx'", name="tensorrt_rtx"))
    missing_library = import_fault(ImportError("libnvonnxparser.so.11: cannot open shared object file"))
    assert missing_package.startswith("TensorRT is not installed; install the package")
    assert missing_library.startswith("TensorRT is installed but its libraries do not load (libnvonnxparser.so.11:")


def test_a_null_from_the_factory_means_no_usable_gpu() -> None:
    fault = creation_fault(TypeError("pybind11::init(): factory function returned nullptr"))
    assert fault.startswith("no usable NVIDIA GPU or driver on this machine")


@pytest.mark.parametrize(
    "line",
    [
        DRIVER_TOO_OLD,
        "Error Code 1: Cuda Runtime (cudaError 100: no CUDA-capable device is detected)",
        "CUDA initialization failure with error: 35. Please check your CUDA installation",
    ],
)
def test_the_error_codes_of_a_missing_driver_or_device_are_recognised(line: str) -> None:
    fault = device_fault(["something else", line])
    assert fault is not None
    assert fault.startswith("no usable NVIDIA GPU or driver on this machine")


@pytest.mark.parametrize("line", [WRONG_VERSION, "cudaError 2: out of memory", "35 layers", "Error Code 100: x"])
def test_other_failures_are_not_blamed_on_the_driver(line: str) -> None:
    assert device_fault([line]) is None


def test_a_plan_that_is_refused_on_a_sound_device_is_said_to_be_of_another_version_or_device() -> None:
    fault = plan_fault([WRONG_VERSION])
    assert fault.startswith("TensorRT cannot read the plan; it was built for another version or device, or is damaged")
    assert fault.endswith(WRONG_VERSION)


def test_a_plan_that_is_refused_for_want_of_a_device_is_not_said_to_be_damaged() -> None:
    assert "damaged" not in plan_fault([WRONG_VERSION, DRIVER_TOO_OLD])
