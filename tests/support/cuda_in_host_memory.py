"""A CUDA device that is host memory, and an execution context of TensorRT on it."""
# ruff: noqa: N801, N802, N815 - the names of the CUDA runtime and of TensorRT are their own

# ruff: noqa: N801, N802, N815 - the names of the CUDA runtime and of TensorRT are their own

import ctypes
import enum
from collections.abc import Callable
from typing import Any

import numpy as np


class CudaInHostMemory:
    """The functions of `cuda.bindings.runtime` that the server calls, on a device of `room` bytes.

    A stream does nothing until it is waited for, and then only what it must: a missing event gives wrong pixels.
    """

    cudaEventBlockingSync = 1
    cudaEventDisableTiming = 2
    cudaDeviceScheduleBlockingSync = 4
    cudaStreamNonBlocking = 1

    class cudaError_t(enum.IntEnum):
        cudaSuccess = 0
        cudaErrorInvalidValue = 1
        cudaErrorMemoryAllocation = 2
        cudaErrorNotReady = 600
        cudaErrorStreamCaptureUnsupported = 900

    cudaMemcpyKind = enum.IntEnum("cudaMemcpyKind", ["cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"])
    cudaStreamCaptureMode = enum.IntEnum("cudaStreamCaptureMode", ["cudaStreamCaptureModeThreadLocal"])

    def __init__(self, room: int = 2**30) -> None:
        self.room = room
        self.on_device: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.graphs: list[list[Callable[[], None]]] = []
        self.calls: list[str] = []
        self.queries = 0
        self.capturing: list[Callable[[], None]] | None = None
        self.refuse_capture = False
        self.fault = 0
        self.streams: dict[int, list[Any]] = {}
        self.events: dict[int, tuple[int, object] | None] = {}
        self.event_flags: set[int] = set()
        self.unlaunched: list[Any] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("cuda") and name[4].isupper():
            found = object.__getattribute__(self, name)
            if callable(found) and not isinstance(found, type):
                object.__getattribute__(self, "calls").append(name)
        return object.__getattribute__(self, name)

    def enqueue(self, work: Callable[[], None], stream: int) -> None:
        """Keep the work for later, or for the graph that is being captured."""
        (self.streams[stream] if self.capturing is None else self.capturing).append(work)

    def work_off(self, stream: int, until: object = None) -> None:
        """Do what is in a stream up to a mark; a part of it that waits for another stream makes that one work."""
        queue = self.streams[stream]
        while queue and (until is None or until in queue):
            if callable(step := queue.pop(0)):
                step()

    def used(self) -> int:
        return sum(ctypes.sizeof(block) for block in self.on_device.values())

    def cudaMalloc(self, size: int) -> tuple[int, int | None]:
        if self.used() + size > self.room:
            return self.cudaError_t.cudaErrorMemoryAllocation, None
        block = ctypes.create_string_buffer(b"\xff" * size, size)  # NaN
        self.on_device[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    def cudaFree(self, address: int) -> tuple[int]:
        for stream in self.streams:  # as the real one does
            self.work_off(stream)
        return (0 if self.on_device.pop(address, None) else 1,)

    def cudaMallocHost(self, size: int) -> tuple[int, int]:
        block = ctypes.create_string_buffer(size)
        self.pinned[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    def cudaFreeHost(self, address: int) -> tuple[int]:
        return (0 if self.pinned.pop(address, None) else 1,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        inward = kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice
        sides = (self.on_device, self.pinned) if inward else (self.pinned, self.on_device)
        if target not in sides[0] or source not in sides[1]:
            return (1,)
        self.enqueue(lambda: ctypes.memmove(target, source, size) and None, stream)
        return (0,)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:
        self.streams[77 + len(self.streams)] = []
        return 0, 76 + len(self.streams)

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        self.work_off(stream)
        return (self.fault,)

    def cudaDeviceSynchronize(self) -> tuple[int]:
        for stream in self.streams:
            self.work_off(stream)
        return (self.fault,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[int, int]:
        self.event_flags.add(flags)
        event = max(self.events, default=0) + 1
        self.events[event] = None
        return 0, event

    def cudaEventDestroy(self, event: int) -> tuple[int]:
        del self.events[event]
        return (0,)

    def cudaEventRecord(self, event: int, stream: int) -> tuple[int]:
        mark = object()
        self.streams[stream].append(mark)
        self.events[event] = (stream, mark)
        return (0,)

    def cudaEventSynchronize(self, event: int) -> tuple[int]:
        if recorded := self.events[event]:
            self.work_off(*recorded)
        return (self.fault,)

    def cudaEventQuery(self, event: int) -> tuple[int]:
        self.queries += 1
        recorded = self.events[event]
        if recorded is None or recorded[1] not in self.streams[recorded[0]]:
            return (self.cudaError_t.cudaSuccess,)
        return (self.cudaError_t.cudaErrorNotReady,)

    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[int]:
        if recorded := self.events[event]:
            self.streams[stream].append(lambda: self.work_off(*recorded))
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        if self.refuse_capture:
            return (900,)
        self.capturing = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:
        captured, self.capturing = self.capturing, None
        self.unlaunched.append(captured)
        return 0, captured

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[int, Any]:
        self.graphs.append(graph)
        return 0, graph

    def cudaGraphDestroy(self, graph: Any) -> tuple[int]:
        self.unlaunched = [kept for kept in self.unlaunched if kept is not graph]
        return (0,)

    def cudaGraphLaunch(self, graph: Any, stream: int) -> tuple[int]:
        self.streams[stream] += graph
        return (0,)

    def cudaGraphExecDestroy(self, graph: Any) -> tuple[int]:
        self.graphs = [kept for kept in self.graphs if kept is not graph]
        return (0,)

    def cudaGetLastError(self) -> tuple[int]:
        return (0,)

    def cudaGetErrorString(self, status: int) -> tuple[int, bytes]:
        return 0, f"error number {int(status)}".encode()


class AddOne:
    """An execution context that answers its input plus one, and 15 prompt weights: its first value, counted up.

    For a plan for mixed sizes it adds a thousand times each image's height, and its width. As the library, it sets
    itself up in the first run after a change of shape, which cannot be captured.
    """

    def __init__(self, cuda: CudaInHostMemory) -> None:
        self.cuda = cuda
        self.set_up_for: tuple[int, ...] = ()
        self.shapes: list[tuple[int, ...]] = []
        self.addresses: dict[str, int] = {}
        self.accepts = True
        self.works = True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if name == "image":
            self.shape = tuple(shape)
        return self.accepts and (name == "image" or shape == self.shape[:1])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return any(at <= address < at + ctypes.sizeof(block) for at, block in self.cuda.on_device.items())

    def execute_async_v3(self, stream: int) -> bool:
        if not self.works or (self.cuda.capturing is not None and self.set_up_for != self.shape):
            return False
        self.set_up_for = self.shape
        names = ("image", "restored", "prompt_weights", "height", "width")
        shape, (source, target, weights, heights, widths) = self.shape, map(self.addresses.get, names)

        def work() -> None:
            self.shapes.append(shape)
            _floats(target, shape)[:] = _floats(source, shape) + 1
            if heights is not None:
                sizes = 1000 * _integers(heights, shape[0]) + _integers(widths, shape[0])
                _floats(target, shape)[:] += sizes[:, None, None, None]
            if weights is not None:
                _floats(weights, (shape[0], 15))[:] = _floats(source, shape)[:, 0, 0, :1] + np.arange(15)

        self.cuda.enqueue(work, stream)
        return True


def _floats(address: int, shape: tuple[int, ...]) -> Any:
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)


def _integers(address: int, count: int) -> Any:
    assert address % 8 == 0
    return np.ctypeslib.as_array((ctypes.c_int64 * count).from_address(address))
