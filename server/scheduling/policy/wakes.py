"""The Wakes: which device is woken when there is work for it, and when."""

from collections.abc import Mapping

from server.scheduling.policy.device import Device
from server.scheduling.queue.tile import Tile
from server.scheduling.queue.tile_queue import TileQueue

# A shorter run begins at the end of the event loop's turn: beside what it costs to wake a thread and to pass it the
# interpreter lock, tiles that come within the same turn are worth a wait.
SHORT_RUN_S = 5e-4


class Wakes:
    """Wakes the threads of devices; to be called under the queue's lock, and `new_tile` on the event loop."""

    def __init__(self, devices: Mapping[str, Device], queue: TileQueue) -> None:
        self._devices = devices
        self._queue = queue
        self._put_off: list[Tile] = []

    def new_tile(self, tile: Tile) -> None:
        """Wake the idle device that would end a new tile first, unless it waits for more tiles of that shape.

        For a short run that the tile does not fill, that is put off to the end of the loop's turn.
        """
        if (device := self._device_for(tile)) is None:
            return
        padded_shape = tile.padded_shape
        if not 0 < device.predict(padded_shape, 1) < SHORT_RUN_S or self._waiting(tile) >= device.room(padded_shape):
            device.wake.notify()
            return
        self._put_off.append(tile)
        if len(self._put_off) == 1:
            tile.future.get_loop().call_soon(self._end_turn)

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

    def _end_turn(self) -> None:
        with self._queue.lock:
            tiles, self._put_off = self._put_off, []
            for tile in tiles:
                if (device := self._device_for(tile)) is not None:
                    device.wake.notify()

    def _device_for(self, tile: Tile) -> Device | None:
        idle = [device for device in self._devices.values() if not device.running]
        if not idle:
            return None
        padded_shape = tile.padded_shape
        device = idle[0] if len(idle) == 1 else min(idle, key=lambda device: device.predict(padded_shape, 1))
        wait = device.wait
        holds = wait is not None and wait.padded_shape == padded_shape and tile.deadline is None
        return None if holds and 0 < self._waiting(tile) < wait.tiles else device  # type: ignore[union-attr]

    def _waiting(self, tile: Tile) -> int:
        bucket = self._queue.bucket(tile.padded_shape)
        return 0 if bucket is None else len(bucket)
