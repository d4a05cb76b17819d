"""The PlanRuns: batches run on the execution contexts of a plan, in buffers kept for shapes seen before."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.plan_manifest import PlanManifest, ShapeOutsideProfiles
from server.backends.base import Pixels
from server.backends.cuda_device import CudaDevice, PinnedArray
from server.backends.plan_parts import counts, tensor_bytes
from server.backends.shape_cache import ShapeCache
from server.errors import BackendError, DeviceOutOfMemory

log = logging.getLogger(__name__)

# The library settles its own state for a shape in the first runs, which a recording must not hold.
RUNS_BEFORE_RECORDING = 2
# Each shape also holds page-locked memory of the host, and its graph some thousand kernel nodes.
MOST_SHAPES = 32


@dataclass(eq=False)
class Buffers:
    """What a shape needs on both sides, and its graph once it was recorded."""

    shape: tuple[int, ...]
    image: PinnedArray
    answer: PinnedArray
    device_image: int
    device_answer: int
    runs: int = 0
    graph: Any = None


class PlanRuns:
    """Runs any batch that the plan's profiles take, cut into parts where none takes it whole; from one thread.

    `contexts` are the library's execution contexts, one a profile in the manifest's order. With `records`, a shape
    that comes again is replayed as one CUDA graph: both copies and everything between them.
    """

    def __init__(
        self, manifest: PlanManifest, contexts: Sequence[Any], device: CudaDevice, max_bytes: int, *, records: bool
    ) -> None:
        self._manifest = manifest
        self._contexts = contexts
        self._device = device
        self._records = records and max_bytes > 0
        self._kept: ShapeCache[Buffers] = ShapeCache(max_bytes, MOST_SHAPES, runs_before=0)
        self._stream = device.new_stream()

    def run(self, batch: Pixels) -> Pixels:
        """Restore (N, 3, H, W) into a fresh array; BackendError names the sizes that the plan takes."""
        try:
            parts = counts(self._manifest.profiles, len(batch), *batch.shape[2:])
        except ShapeOutsideProfiles as error:
            raise BackendError(str(error)) from error
        output = np.empty(batch.shape, np.float32)
        start = 0
        for count in parts:
            self._run_part(batch[start : start + count], output[start : start + count])
            start += count
        return output

    def close(self) -> None:
        """Give everything back."""
        for buffers in self._kept.clear():
            self._free(buffers)
        self._device.destroy_stream(self._stream)

    def _run_part(self, batch: Pixels, output: Pixels) -> None:
        buffers = self._kept.get(batch.shape) or self._prepare(batch.shape)
        kept = self._kept.get(batch.shape) is buffers
        try:
            np.copyto(buffers.image.pixels, batch)
            if buffers.graph is None:
                self._queue(buffers)
            else:
                self._device.launch(buffers.graph, self._stream)
            self._device.synchronize(self._stream)
            np.copyto(output, buffers.answer.pixels)
            buffers.runs += 1
            if self._records and kept and buffers.runs == RUNS_BEFORE_RECORDING:
                self._record(buffers)
        finally:
            if not kept:
                self._free(buffers)

    def _queue(self, buffers: Buffers) -> None:
        """Put the copy in, the run and the copy out into the stream."""
        manifest, device, stream = self._manifest, self._device, self._stream
        count, _, height, width = buffers.shape
        context = self._contexts[manifest.profile_for((count, height, width))]
        accepted = (
            context.set_input_shape(manifest.input_name, buffers.shape)
            and context.set_tensor_address(manifest.input_name, buffers.device_image)
            and context.set_tensor_address(manifest.output_name, buffers.device_answer)
        )
        if not accepted:
            raise BackendError(f"TensorRT refused a batch of shape {buffers.shape}, which a profile of the plan takes")
        device.copy_in(buffers.device_image, buffers.image, stream)
        if not context.execute_async_v3(stream):
            raise BackendError(f"TensorRT failed on a batch of shape {buffers.shape}; the log has its own words")
        device.copy_out(buffers.answer, buffers.device_answer, stream)

    def _record(self, buffers: Buffers) -> None:
        try:
            buffers.graph = self._device.record(self._stream, lambda: self._queue(buffers))
        except BackendError as error:  # it runs without; `runs` moves on, so this was the only try
            log.warning(
                "a shape cannot be recorded as a CUDA graph", extra={"shape": buffers.shape, "reason": str(error)}
            )

    def _prepare(self, shape: tuple[int, ...]) -> Buffers:
        """Allocate for a shape, for keeping if the budget holds it; DeviceOutOfMemory once nothing is kept any more."""
        size = 2 * tensor_bytes(shape)
        for buffers in self._kept.make_room(size):
            self._free(buffers)
        prepared = self._allocate(shape)
        if prepared is None:
            for buffers in self._kept.clear():
                self._free(buffers)
            prepared = self._allocate(shape)
        if prepared is None:
            raise DeviceOutOfMemory(f"the buffers of a batch of shape {shape} do not fit the device's memory")
        self._kept.put(shape, prepared, size)
        return prepared

    def _allocate(self, shape: tuple[int, ...]) -> Buffers | None:
        """All four buffers, or none of them."""
        device, size = self._device, tensor_bytes(shape)
        arrays: list[PinnedArray] = []
        addresses: list[int] = []
        try:
            for _ in range(2):
                addresses.append(device.allocate(size))
                arrays.append(device.allocate_pinned(shape))
        except DeviceOutOfMemory:
            self._free_all(arrays, addresses)
            return None
        return Buffers(shape, arrays[0], arrays[1], addresses[0], addresses[1])

    def _free(self, buffers: Buffers) -> None:
        if buffers.graph is not None:
            self._device.destroy_graph(buffers.graph)
        self._free_all([buffers.image, buffers.answer], [buffers.device_image, buffers.device_answer])

    def _free_all(self, arrays: Sequence[PinnedArray], addresses: Sequence[int]) -> None:
        for array in arrays:
            self._device.free_pinned(array)
        for address in addresses:
            self._device.free(address)
