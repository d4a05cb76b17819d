"""Query of the CUDA driver for the NVIDIA GPU that a plan is built on and a server runs on."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

DRIVER_LIBRARY = "libcuda.so.1"
SUCCESS = 0
# CUdevice_attribute and the version encoding, from the CUDA driver API's cuda.h
COMPUTE_CAPABILITY_MAJOR = 75
COMPUTE_CAPABILITY_MINOR = 76
VERSION_MAJOR = 1000
VERSION_MINOR = 10
NAME_BYTES = 256


@dataclass(frozen=True)
class Device:
    """GPU with its name, compute capability such as "9.0", and the newest CUDA version its driver supports."""

    name: str
    compute_capability: str
    driver: str


def find_device(library: str = DRIVER_LIBRARY) -> Device | None:
    """Return the first visible GPU, or None if there is no driver or no GPU.

    Queries the driver directly, so that neither a build nor the choice of a backend needs another CUDA package.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return None
    device, major, minor, version = (ctypes.c_int() for _ in range(4))
    name = ctypes.create_string_buffer(NAME_BYTES)
    calls: tuple[Callable[[], int], ...] = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(ctypes.byref(device), 0),
        lambda: driver.cuDeviceGetName(name, NAME_BYTES, device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(major), COMPUTE_CAPABILITY_MAJOR, device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(minor), COMPUTE_CAPABILITY_MINOR, device),
        lambda: driver.cuDriverGetVersion(ctypes.byref(version)),
    )
    if any(call() != SUCCESS for call in calls):  # in this order, stopping at the first failure
        return None
    return Device(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major.value}.{minor.value}",
        driver=f"CUDA {version.value // VERSION_MAJOR}.{version.value % VERSION_MAJOR // VERSION_MINOR}",
    )
