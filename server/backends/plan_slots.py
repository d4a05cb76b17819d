"""PlanSlots: staging memory for the batches of a plan, kept for shapes seen before."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from server.backends.base import Aux, AuxOutput, Pixels, Sizes
from server.backends.cuda_device import FLOAT_BYTES, CudaDevice, PinnedArray
from server.backends.plan_parts import tensor_bytes
from server.backends.shape_cache import ShapeCache
from server.errors import DeviceOutOfMemory

SLOTS_A_SHAPE = 2
# Each slot also holds page-locked host memory, and its graph some thousand kernel nodes.
MOST_SLOTS = 64
INTEGER_BYTES = 8
ALIGNED_BYTES = 256
"""TensorRT requires this alignment of tensors."""


@dataclass(eq=False)
class Slot:
    """The buffers of one batch on host and device, and the graph of its run once recorded.

    The answer is one block, so that one copy brings it all: the restored images, then the auxiliary output
    (N, *aux_shape) if the plan has one.
    """

    shape: tuple[int, ...]
    aux_shape: tuple[int, int]
    image: PinnedArray
    answer: PinnedArray
    device_image: int
    device_answer: int
    copied_in: int
    ran: int
    copied_out: int
    runs: int = 0
    graph: Any = None
    busy: bool = False
    kept: bool = False
    sides: PinnedArray | None = None
    """Of a plan for mixed sizes: the images' heights and behind them, at the next aligned address, their widths."""
    device_sides: int = 0

    @property
    def restored(self) -> Pixels:
        """The restored images, in page-locked memory."""
        return self.answer.pixels[: math.prod(self.shape)].reshape(self.shape)

    @property
    def aux(self) -> Aux:
        """The auxiliary output, in the same memory."""
        return self.answer.pixels[math.prod(self.shape) :].reshape(self.shape[0], *self.aux_shape)

    def set_sizes(self, sizes: Sizes) -> None:
        """Write the (height, width) of each image into the buffer that is copied in."""
        if self.sides is not None:
            rows = self.sides.pixels.reshape(2, -1).view(np.int64)
            rows[:, : len(sizes)] = sizes.T

    @property
    def device_size_inputs(self) -> tuple[int, int]:
        """The device addresses of the heights and of the widths."""
        return self.device_sides, self.device_sides + _side_bytes(self.shape)

    @property
    def device_aux(self) -> int:
        """The device address of the auxiliary output; aligned, since every image takes a multiple of 256 bytes."""
        return self.device_answer + tensor_bytes(self.shape)


class PlanSlots:
    """Lends slots; each shape has two, so that one is filled and emptied while the other runs.

    Kept slots take at most `max_bytes` on the device. A slot that is evicted while lent is freed on its return, because
    freeing waits for everything on the device.
    """

    def __init__(
        self,
        device: CudaDevice,
        max_bytes: int,
        aux: AuxOutput | None = None,
        *,
        takes_sizes: bool = False,
    ) -> None:
        self._device = device
        self._takes_sizes = takes_sizes
        self._aux_shape = (0, 0) if aux is None else aux.shape
        self._kept: ShapeCache[Slot] = ShapeCache(max_bytes, MOST_SLOTS, runs_before=0)
        self._max_bytes = max_bytes
        self._lent: list[Slot] = []

    @property
    def any_lent(self) -> bool:
        return bool(self._lent)

    def lend(self, shape: tuple[int, ...], *, within_budget: bool) -> Slot:
        """Return an unused slot; raises DeviceOutOfMemory if it does not fit even after all kept slots are freed.

        With `within_budget`, DeviceOutOfMemory also if it exceeds `max_bytes` together with the lent slots.
        """
        keys = [(*shape, number) for number in range(SLOTS_A_SHAPE)]
        free = [slot for slot in map(self._kept.get, keys) if slot is not None and not slot.busy]
        if free:
            slot = free[0]
        else:
            lent_bytes = sum(self._bytes(slot.shape) for slot in self._lent)
            if within_budget and lent_bytes + self._bytes(shape) > self._max_bytes:
                raise DeviceOutOfMemory("the memory for staging does not hold this batch beside the one that runs")
            slot = self._prepare(shape, next((key for key in keys if self._kept.get(key) is None), keys[-1]))
        slot.busy = True
        self._lent.append(slot)
        return slot

    def give_back(self, slot: Slot) -> None:
        """Take back a slot that the device no longer uses."""
        slot.busy = False
        self._lent.remove(slot)
        if not slot.kept:
            self._free(slot)

    def close(self) -> None:
        """Free all slots, lent or not; the device must be idle."""
        self._let_go(self._kept.clear())
        for slot in list(self._lent):
            self.give_back(slot)

    def _prepare(self, shape: tuple[int, ...], key: tuple[int, ...]) -> Slot:
        size = self._bytes(shape)
        self._let_go(self._kept.make_room(size))
        slot = self._allocate(shape)
        if slot is None:
            self._let_go(self._kept.clear())
            slot = self._allocate(shape)
        if slot is None:
            raise DeviceOutOfMemory(f"the buffers of a batch of shape {shape} do not fit the device's memory")
        if self._kept.get(key) is None:  # three lent at a time: the third is not kept
            slot.kept = slot not in self._kept.put(key, slot, size)
        return slot

    def _let_go(self, slots: Sequence[Slot]) -> None:
        for slot in slots:
            slot.kept = False
            if not slot.busy:
                self._free(slot)

    def _aux_numbers(self, shape: tuple[int, ...]) -> int:
        """Return the number of values in the auxiliary output of a batch."""
        return shape[0] * math.prod(self._aux_shape)

    def _bytes(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a slot on the device; it takes as many on the host."""
        sides = 2 * _side_bytes(shape) if self._takes_sizes else 0
        return 2 * tensor_bytes(shape) + self._aux_numbers(shape) * FLOAT_BYTES + sides

    def _allocate(self, shape: tuple[int, ...]) -> Slot | None:
        """Allocate all buffers of a slot; None, with nothing allocated, if one does not fit."""
        device = self._device
        arrays: list[PinnedArray] = []
        addresses: list[int] = []
        try:
            layouts: list[tuple[int, ...]] = [shape, (math.prod(shape) + self._aux_numbers(shape),)]
            if self._takes_sizes:
                layouts.append((2 * _side_bytes(shape) // FLOAT_BYTES,))
            for layout in layouts:
                addresses.append(device.allocate(math.prod(layout) * FLOAT_BYTES))
                arrays.append(device.allocate_pinned(layout))
        except DeviceOutOfMemory:
            self._free_all(arrays, addresses)
            return None
        image, answer, *sides = arrays
        device_image, device_answer, *device_sides = addresses
        copied_in, ran, copied_out = (device.new_event() for _ in range(3))
        slot = Slot(shape, self._aux_shape, image, answer, device_image, device_answer, copied_in, ran, copied_out)
        if sides:
            slot.sides, slot.device_sides = sides[0], device_sides[0]
        return slot

    def _free(self, slot: Slot) -> None:
        if slot.graph is not None:
            self._device.destroy_graph(slot.graph)
        for event in (slot.copied_in, slot.ran, slot.copied_out):
            self._device.destroy_event(event)
        arrays, addresses = [slot.image, slot.answer], [slot.device_image, slot.device_answer]
        if slot.sides is not None:
            arrays.append(slot.sides)
            addresses.append(slot.device_sides)
        self._free_all(arrays, addresses)

    def _free_all(self, arrays: Sequence[PinnedArray], addresses: Sequence[int]) -> None:
        for array in arrays:
            self._device.free_pinned(array)
        for address in addresses:
            self._device.free(address)


def _side_bytes(shape: tuple[int, ...]) -> int:
    """Return the bytes of one int64 for each image, rounded up to the alignment."""
    return math.ceil(shape[0] * INTEGER_BYTES / ALIGNED_BYTES) * ALIGNED_BYTES
