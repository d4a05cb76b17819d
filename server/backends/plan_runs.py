"""PlanRuns: runs batches on the execution contexts of a plan; copies of one batch overlap the run of another."""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.plan_manifest import PlanManifest, ShapeOutsideProfiles
from server.backends.base import Aux, ModelInput, ModelSpec, Pixels, Result, Sizes
from server.backends.cuda_device import CudaDevice
from server.backends.plan_parts import check_size, counts
from server.backends.plan_slots import PlanSlots, Slot
from server.errors import BackendError

log = logging.getLogger(__name__)

# The library initialises its state for a shape in the first runs, which must not be part of a recording.
RUNS_BEFORE_RECORDING = 2
# Seconds between two queries of an event; CUDA has no wait with a bound.
QUERY_S = 0.0003


class PlanRuns:
    """Runs any batch that the plan's profiles accept, split into parts where none fits the whole; from one thread.

    `contexts` are the library's execution contexts, one for each profile in the manifest's order. Runs are serial in
    one stream, since they share scratch memory; copies in and copies out have their own streams, and events order the
    three steps of a batch. With `records`, repeated runs of a slot are replayed as one CUDA graph, which contains no
    copies, so that the copies of one batch can overlap the graph of another.
    """

    def __init__(
        self, manifest: PlanManifest, contexts: Sequence[Any], device: CudaDevice, max_bytes: int, *, records: bool
    ) -> None:
        self._manifest = manifest
        self._contexts = contexts
        self._device = device
        self._records = records and max_bytes > 0
        self.model = ModelSpec.of(manifest)
        self._slots = PlanSlots(device, max_bytes, self.model.aux, takes_sizes=self.model.mixed_sizes)
        self._in, self._stream, self._out = (device.new_stream() for _ in range(3))
        self._told: dict[int, tuple[int, ...]] = {}
        self._unrecordable: set[tuple[int, ...]] = set()

    def run(self, batch: ModelInput) -> Result:
        """Restore a batch into fresh arrays; UnsupportedSize names the sizes that the plan takes."""
        return self.begin(batch).result()

    def begin(self, batch: ModelInput) -> "_PlanRun":
        """Queue the first part of a batch behind the device's current work; `result` queues the other parts."""
        self.model.check(batch)
        count, _, height, width = batch.shape
        check_size(self._manifest.profiles, height, width)
        try:
            parts = counts(self._manifest.profiles, count, height, width)
        except ShapeOutsideProfiles as error:
            raise BackendError(str(error)) from error
        sizes = batch.each_size
        first = self.put(batch.pixels[: parts[0]], sizes[: parts[0]], within_budget=self._slots.any_lent)
        return _PlanRun(self, batch.pixels, sizes, parts, first)

    def close(self) -> None:
        """Release everything, including runs that have not ended."""
        self._drain()
        self._slots.close()
        for stream in (self._in, self._stream, self._out):
            self._device.destroy_stream(stream)

    def put(self, batch: Pixels, sizes: Sizes, *, within_budget: bool = False) -> Slot:
        """Queue a batch that fits a profile as a whole."""
        slot = self._slots.lend(batch.shape, within_budget=within_budget)
        device = self._device
        try:
            np.copyto(slot.image.pixels, batch)
            device.copy_in(slot.device_image, slot.image, self._in)
            if slot.sides is not None:
                slot.set_sizes(sizes)
                device.copy_in(slot.device_sides, slot.sides, self._in)
            device.mark(slot.copied_in, self._in)
            device.hold(self._stream, slot.copied_in)
            if slot.graph is None:
                self._queue(slot)
            else:
                device.launch(slot.graph, self._stream)
            device.mark(slot.ran, self._stream)
            device.hold(self._out, slot.ran)
            device.copy_out(slot.answer, slot.device_answer, self._out)
            device.mark(slot.copied_out, self._out)
        except BaseException:
            self._drain()  # the device may use the slot already
            self._slots.give_back(slot)
            raise
        return slot

    def wait(self, slot: Slot, seconds: float) -> None:
        """Return when a queued batch has run or failed, or after `seconds`."""
        give_up = time.monotonic() + seconds
        while (left_s := give_up - time.monotonic()) > 0 and not self._device.has_happened(slot.copied_out):
            time.sleep(min(QUERY_S, left_s))

    def fetch(self, slot: Slot, output: Pixels, aux: Aux | None) -> None:
        """Wait for a queued batch, and copy its outputs into `output` and `aux`."""
        try:
            self._device.wait(slot.copied_out)
            np.copyto(output, slot.restored)
            if aux is not None:
                np.copyto(aux, slot.aux)
            slot.runs += 1
            if self._records and slot.kept and slot.runs == RUNS_BEFORE_RECORDING:
                self._record(slot)
        finally:
            self._slots.give_back(slot)

    def _queue(self, slot: Slot) -> None:
        """Queue the run in its stream."""
        manifest, prompt = self._manifest, self._manifest.prompt_output
        count, _, height, width = slot.shape
        index = manifest.profile_for((count, height, width))
        context = self._contexts[index]
        # Addresses may change during the context's last run; for shapes this is not documented.
        if self._told.get(index, slot.shape) != slot.shape:
            self._device.synchronize(self._stream)
        self._told[index] = slot.shape
        accepted = (
            context.set_input_shape(manifest.input_name, slot.shape)
            and context.set_tensor_address(manifest.input_name, slot.device_image)
            and context.set_tensor_address(manifest.output_name, slot.device_answer)
            and (prompt is None or context.set_tensor_address(prompt.name, slot.device_aux))
            and all(
                context.set_input_shape(name, (count,)) and context.set_tensor_address(name, address)
                for name, address in zip(manifest.size_inputs or (), slot.device_size_inputs, strict=False)
            )
        )
        if not accepted:
            raise BackendError(f"TensorRT refused a batch of shape {slot.shape}, which a profile of the plan takes")
        if not context.execute_async_v3(self._stream):
            self._device.synchronize(self._stream)  # raises what is wrong with the device, if anything
            raise BackendError(f"TensorRT failed on a batch of shape {slot.shape}; the log has its own words")

    def _record(self, slot: Slot) -> None:
        """Record the run of a slot as a graph, unless its shape has failed to be recorded before."""
        if slot.shape in self._unrecordable:
            return
        try:
            # The first run after a change of shape sets up the context, which a recording must not contain.
            self._queue(slot)
            self._device.synchronize(self._stream)
            slot.graph = self._device.record(self._stream, lambda: self._queue(slot))
        except BackendError as error:
            self._unrecordable.add(slot.shape)
            log.warning("a shape cannot be recorded as a CUDA graph", extra={"shape": slot.shape, "reason": str(error)})

    def _drain(self) -> None:
        for stream in (self._in, self._stream, self._out):
            with suppress(BackendError):  # the event of a failed run reports its error
                self._device.synchronize(stream)


@dataclass(eq=False, slots=True)
class _PlanRun:
    """A batch whose first part is queued."""

    runs: PlanRuns
    batch: Pixels
    sizes: Sizes
    parts: list[int]
    first: Slot

    def wait(self, seconds: float) -> None:
        """Return when the first part has run, or after `seconds`."""
        self.runs.wait(self.first, seconds)

    def result(self) -> Result:
        """Wait for the first part, then run the others one by one: a batch uses at most one slot at a time."""
        output, model = np.empty(self.batch.shape, np.float32), self.runs.model
        aux = None if model.aux is None else model.aux.empty(len(output))
        slot, start = self.first, 0
        for count in self.parts:
            part = slice(start, start + count)
            if start:
                slot = self.runs.put(self.batch[part], self.sizes[part])
            self.runs.fetch(slot, output[part], None if aux is None else aux[part])
            start += count
        return Result(output, aux)
