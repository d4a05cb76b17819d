"""The waking: which idle device is told that there is work. All of it under the queue's lock."""

from collections.abc import Collection

from server.scheduling.policy.device import Device
from server.scheduling.queue.tile import Tile
from server.scheduling.queue.tile_queue import TileQueue


def wake_for(tile: Tile, devices: Collection[Device], queue: TileQueue) -> None:
    """Wake the idle device that would end a new tile first, unless it waits for more of them."""
    idle = [device for device in devices if not device.running]
    if not idle:
        return
    padded_shape = tile.padded_shape
    device = idle[0] if len(idle) == 1 else min(idle, key=lambda device: device.predict(padded_shape, 1))
    pause = device.pause
    if pause is not None and pause.padded_shape == padded_shape and tile.deadline is None:
        bucket = queue.bucket(padded_shape)
        if bucket is not None and len(bucket) < pause.tiles:
            return
    device.wake.notify()


def wake_idle(devices: Collection[Device], besides: Device) -> None:
    """Wake the other idle devices, because there is work left for them.

    One in a pause knows of it; and two that leave a tile to a third would wake each other without end.
    """
    for device in devices:
        if device is not besides and device.is_idle and device.pause is None:
            device.wake.notify()


def wake_all(devices: Collection[Device]) -> None:
    """Wake every device, because what they may take has changed."""
    for device in devices:
        device.wake.notify_all()
