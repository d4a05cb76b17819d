"""NVML: readings of the GPUs that the server runs on, where the driver's library is installed."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from server.backends.cuda_device import cuda_index, pci_bus_id
from server.metrics import GpuReading, ReadGpu

log = logging.getLogger(__name__)

FindBusId = Callable[[int], str | None]


def gpu_readers(devices: Sequence[str], library: Any = None, find_bus_id: FindBusId = pci_bus_id) -> dict[str, ReadGpu]:
    """Return a reader for each device that is a GPU known to NVML; empty where there is none.

    `library` is the module `pynvml`, or what stands in for it; None takes the installed one.
    """
    indices = {device: index for device in devices if (index := cuda_index(device)) is not None}
    if not indices:
        return {}
    library = library or _installed()
    if library is None:
        log.info("no readings of the GPUs: nvidia-ml-py is not installed")
        return {}
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        log.info("no readings of the GPUs", extra={"reason": str(error)})
        return {}
    found: dict[str, ReadGpu] = {}
    for device, index in indices.items():
        try:
            found[device] = partial(_read, library, _handle(library, index, find_bus_id(index)))
        except library.NVMLError as error:
            log.info("no readings of a GPU", extra={"device": device, "reason": str(error)})
    return found


def _installed() -> Any:
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def _handle(library: Any, index: int, bus_id: str | None) -> Any:
    """Find a GPU by its PCI address: CUDA numbers visible GPUs, fastest first, and NVML all of them in bus order."""
    if bus_id is None:
        return library.nvmlDeviceGetHandleByIndex(index)
    return library.nvmlDeviceGetHandleByPciBusId(bus_id.encode())


def _read(library: Any, handle: Any) -> GpuReading:
    def ask(function: str) -> Any:
        try:
            return getattr(library, function)(handle)
        except library.NVMLError:  # this GPU cannot tell it (MIG, older cards), or is gone
            return None

    memory = ask("nvmlDeviceGetMemoryInfo")
    rates = ask("nvmlDeviceGetUtilizationRates")
    milliwatts = ask("nvmlDeviceGetPowerUsage")
    millijoules = ask("nvmlDeviceGetTotalEnergyConsumption")
    return GpuReading(
        memory_used_bytes=None if memory is None else memory.used,
        memory_bytes=None if memory is None else memory.total,
        utilization_ratio=None if rates is None else rates.gpu / 100,
        power_watts=None if milliwatts is None else milliwatts / 1e3,
        energy_joules=None if millijoules is None else millijoules / 1e3,
    )
