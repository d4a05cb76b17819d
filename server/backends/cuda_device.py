"""CudaDevice: memory, copies and graphs of one NVIDIA device, with every call of the CUDA runtime checked."""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from server.backends.base import Pixels
from server.errors import BackendError, BackendLost, BackendUnavailable, DeviceOutOfMemory

FLOAT_BYTES = 4
# Values of cudaError_t after which every further call of the process fails too, so that it must be restarted
# (CUDA runtime API, "Data types used by CUDA Runtime"): 226 contained, 700 illegal address, 702 launch timeout,
# 709 context gone, 710 assert, 714 stack, 715 instruction, 716 misaligned, 717 address space, 718 program counter,
# 719 launch failure, 721 tensor memory, 810 MPS, 911 external device. 214 and 220, uncorrectable ECC and NVLink, end
# the context as well.
STICKY_FAULTS = frozenset({214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911})


@dataclass(frozen=True)
class PinnedArray:
    """Page-locked host memory: a float32 array and its address, by which it is freed."""

    pixels: Pixels
    address: int


class CudaDevice:
    """One visible device, used through `cuda.bindings.runtime`; every call raises BackendLost once it is lost.

    These bindings spare a machine that serves a plan from installing torch, which is fifty times larger.
    CUDA's current device is a property of a thread: this object belongs to the thread that opened it.
    """

    def __init__(self, runtime: Any, index: int = 0) -> None:
        self._runtime = runtime
        self._index = index

    @property
    def name(self) -> str:
        """The product name, such as "NVIDIA H100 80GB HBM3"."""
        raw = self._properties().name
        return raw.decode() if isinstance(raw, bytes) else str(raw)

    @property
    def compute_capability(self) -> str:
        """The version of its instruction set, such as "9.0"."""
        properties = self._properties()
        return f"{properties.major}.{properties.minor}"

    def new_stream(self) -> int:
        """Create a stream that does not wait for the legacy default stream."""
        return int(self._call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", stream)

    def check(self) -> None:
        """Block until the device is idle; raises BackendLost if it is unusable."""
        self._call("cudaDeviceSynchronize")

    def synchronize(self, stream: int) -> None:
        """Block until everything in the stream has run; raises BackendError if any of it failed."""
        self._call("cudaStreamSynchronize", stream)

    def new_event(self) -> int:
        """Create an event, which streams and threads can wait for once `mark` has placed it; threads then sleep."""
        flags = self._runtime.cudaEventDisableTiming | self._runtime.cudaEventBlockingSync
        return int(self._call("cudaEventCreateWithFlags", flags))

    def destroy_event(self, event: int) -> None:
        self._call("cudaEventDestroy", event)

    def mark(self, event: int, stream: int) -> None:
        """Place the event behind everything that is in the stream now."""
        self._call("cudaEventRecord", event, stream)

    def hold(self, stream: int, event: int) -> None:
        """Make all later work of the stream wait for the event."""
        self._call("cudaStreamWaitEvent", stream, event, 0)

    def wait(self, event: int) -> None:
        """Block until the event; raises BackendError if anything before it failed."""
        self._call("cudaEventSynchronize", event)

    def has_happened(self, event: int) -> bool:
        """Tell without blocking whether everything before the event has run."""
        (status,) = self._runtime.cudaEventQuery(event)
        return bool(status != self._runtime.cudaError_t.cudaErrorNotReady)

    def allocate(self, size: int) -> int:
        """Allocate `size` bytes on the device and return their address; raises DeviceOutOfMemory."""
        return int(self._call("cudaMalloc", size))

    def free(self, address: int) -> None:
        self._call("cudaFree", address)

    def allocate_pinned(self, shape: tuple[int, ...]) -> PinnedArray:
        """Allocate a page-locked float32 array; raises DeviceOutOfMemory."""
        count = int(np.prod(shape))
        address = int(self._call("cudaMallocHost", count * FLOAT_BYTES))
        floats = (ctypes.c_float * count).from_address(address)
        return PinnedArray(np.ctypeslib.as_array(floats).reshape(shape), address)

    def free_pinned(self, array: PinnedArray) -> None:
        self._call("cudaFreeHost", array.address)

    def copy_in(self, target: int, source: PinnedArray, stream: int) -> None:
        """Queue a copy from the host to the device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", target, source.address, source.pixels.nbytes, kind, stream)

    def copy_out(self, target: PinnedArray, source: int, stream: int) -> None:
        """Queue a copy from the device to the host."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target.address, source, target.pixels.nbytes, kind, stream)

    def record(self, stream: int, queue_work: Callable[[], None]) -> Any:
        """Record the work that `queue_work` puts into the stream as a graph, without running it.

        Raises as `queue_work`; the stream is usable again, and what was recorded by then is destroyed.
        """
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)
        try:
            queue_work()
        except BaseException:
            with suppress(BackendError):  # the capture may be invalid by now, and then has no graph
                if (unfinished := self._call("cudaStreamEndCapture", stream)) is not None:
                    self._call("cudaGraphDestroy", unfinished)
            raise
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: Any, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: Any) -> None:
        self._call("cudaGraphExecDestroy", graph)

    def _properties(self) -> Any:
        return self._call("cudaGetDeviceProperties", self._index)

    def _call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the runtime and return its result; raises if its status is not success."""
        status, *results = getattr(self._runtime, function)(*arguments)
        errors = self._runtime.cudaError_t
        if status == errors.cudaSuccess:
            return results[0] if results else None
        self._runtime.cudaGetLastError()  # or the next call would report this one's failure
        if status == errors.cudaErrorMemoryAllocation:
            raise DeviceOutOfMemory("the device has not enough free memory")
        if int(status) in STICKY_FAULTS:
            raise BackendLost.until_restart(f"cuda:{self._index} is lost: {function} failed: {self._describe(status)}")
        raise BackendError(f"{function} failed: {self._describe(status)}")

    def _describe(self, status: Any) -> str:
        _, text = self._runtime.cudaGetErrorString(status)
        return text.decode() if isinstance(text, bytes) else str(text)


def cuda_index(device: str) -> int | None:
    """Return the N of `cuda:N`; None for a device that is no GPU."""
    kind, _, index = device.partition(":")
    return int(index) if kind == "cuda" else None


def pci_bus_id(index: int) -> str | None:
    """Return a device's PCI address, such as "0000:65:00.0", which CUDA and NVML share; None without the bindings."""
    try:
        from cuda.bindings import runtime
    except ImportError:
        return None
    length = len("0000:00:00.0") + 1
    status, raw = runtime.cudaDeviceGetPCIBusId(length, index)
    if status != runtime.cudaError_t.cudaSuccess:
        return None
    text = raw.decode() if isinstance(raw, bytes) else str(raw)
    return text.rstrip("\0")


def open_device(index: int = 0) -> CudaDevice:
    """Return a visible device, made current in this thread; raises BackendUnavailable, which says what is missing."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendUnavailable(
            f"cuda-bindings is not installed or does not load here ({error}): "
            "install this package with the extra `gpu` or `tensorrt`"
        ) from error
    status, count = runtime.cudaGetDeviceCount()
    if status != runtime.cudaError_t.cudaSuccess or not count:
        reason = getattr(status, "name", str(status)) if not count else ""
        raise BackendUnavailable(
            f"no usable NVIDIA GPU or driver on this machine ({reason}): check with nvidia-smi, "
            "or serve an ONNX artifact on the CPU"
        )
    if index >= count:
        raise BackendUnavailable(f"there is no cuda:{index}: the last of this machine's GPUs is cuda:{count - 1}")
    device = CudaDevice(runtime, index)
    device._call("cudaSetDevice", index)
    # Threads that wait for the device sleep instead of spinning on a core. Refused, without harm, where another
    # library has set up the device differently.
    runtime.cudaSetDeviceFlags(runtime.cudaDeviceScheduleBlockingSync)
    runtime.cudaGetLastError()
    return device
