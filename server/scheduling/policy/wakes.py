"""The Wakes: which device is woken when there is work for it, and when."""

import asyncio
from collections.abc import Mapping

from server.scheduling.policy.device import Device
from server.scheduling.queue.tile import Tile
from server.scheduling.queue.tile_queue import TileQueue

# To wake a thread and pass it the interpreter lock costs about as much as a shorter run, which therefore begins at the
# end of the event loop's turn, with all tiles that came in it.
SHORT_RUN_S = 5e-4


class Wakes:
    """Wakes the threads of devices; to be called under the queue's lock, and `new_tile` on the event loop."""

    def __init__(self, devices: Mapping[str, Device], queue: TileQueue) -> None:
        self._devices = devices
        self._queue = queue
        self._in_turn_of: asyncio.AbstractEventLoop | None = None
        """The loop at the end of whose turn a device is woken."""

    def new_tile(self, tile: Tile) -> None:
        """Wake the idle device that would end a new tile first, unless it waits for more tiles of that shape.

        That is put off to the end of the loop's turn if further tiles may join a short run, and nothing else waits.
        """
        if (device := self._device_for(tile)) is None:
            return
        if not self._may_be_joined(tile, device):
            device.wake.notify()
        elif self._in_turn_of is not (loop := tile.future.get_loop()):
            self._in_turn_of = loop
            loop.call_soon(self._end_turn, tile)

    def others(self, besides: Device) -> None:
        """Wake the other idle devices, because there is work left for them.

        Devices that wait know of it already; two that leave a tile to a third would wake each other without end.
        """
        for device in self._devices.values():
            if device is not besides and device.is_idle and device.wait is None:
                device.wake.notify()

    def all(self) -> None:
        """Wake all devices, because what they may take has changed."""
        for device in self._devices.values():
            device.wake.notify_all()

    def _end_turn(self, tile: Tile) -> None:
        with self._queue.lock:
            self._in_turn_of = None
            if (device := self._device_for(tile)) is not None:
                device.wake.notify()

    def _may_be_joined(self, tile: Tile, device: Device) -> bool:
        padded_shape = tile.padded_shape
        is_short = tile.deadline is None and 0 < device.predict(padded_shape, 1) < SHORT_RUN_S
        return is_short and self._queue.tiles == self._waiting(tile) < device.room(padded_shape)

    def _device_for(self, tile: Tile) -> Device | None:
        idle = [device for device in self._devices.values() if not device.running]
        if not idle:
            return None
        padded_shape = tile.padded_shape
        device = idle[0] if len(idle) == 1 else min(idle, key=lambda device: device.predict(padded_shape, 1))
        wait = device.wait
        if wait is None or wait.padded_shape != padded_shape or tile.deadline is not None:
            return device
        return None if 0 < self._waiting(tile) < wait.tiles else device

    def _waiting(self, tile: Tile) -> int:
        bucket = self._queue.bucket(tile.padded_shape)
        return 0 if bucket is None else len(bucket)
