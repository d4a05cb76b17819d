"""The Backlog: predicted seconds until what was admitted is done."""

from collections.abc import Callable, Collection

from server.scheduling.policy.device import Device
from server.scheduling.queue.tile import PaddedShape, Priority

Saved = Callable[[Device], float]
"""The seconds that a device needs less for what waits than it would for runs of one padded shape each."""


def nothing(device: Device) -> float:
    """What is saved where no sizes share a run."""
    return 0.0


def drain_s(devices: Collection[Device], priority: Priority, now: float, saved: Saved = nothing) -> float:
    """Seconds until all tiles of `priority` and above are done, the devices sharing the work.

    An interactive tile is not delayed by the batch class, except by what runs, so that class does not count for it.
    """
    return _shared([(device.remaining_s(now), device.work_s[priority] - saved(device)) for device in devices])


def answered_s(
    devices: Collection[Device],
    padded_shape: PaddedShape,
    waiting: int,
    priority: Priority,
    now: float,
    count: int = 1,
    saved: Saved = nothing,
) -> float:
    """Seconds until `count` further tiles of `padded_shape` would be answered if they went last; `waiting` are there
    already.

    Whoever is admitted with time to go last can be answered in time by earliest deadline first, whatever comes later,
    because each later one is admitted by the same rule.
    """
    parts, soonest = [], float("inf")
    for device in devices:
        remaining = device.remaining_s(now)
        parts.append((remaining, device.work_with(padded_shape, waiting + count, priority) - saved(device)))
        soonest = min(soonest, remaining + device.predict(padded_shape, 1))
    return max(_shared(parts), soonest) if parts else 0.0


def usual_s(devices: Collection[Device], tiles: int) -> float:
    """Seconds of so many tiles of the usual size, the devices sharing the work; 0 before the first run."""
    rate = sum(1 / device.tile_s for device in devices if device.tile_s)
    return tiles / rate if rate else 0.0


def _shared(parts: list[tuple[float, float]]) -> float:
    """When devices end that share work like a fluid: each is busy for some seconds, and would need some for it all."""
    if len(parts) == 1:
        return parts[0][0] + max(0.0, parts[0][1])
    free, rate, end = 0.0, 0.0, 0.0
    for remaining, work in sorted(parts):
        if work <= 0:
            return max(end, remaining)
        if rate and remaining >= end:  # by then the others are done
            break
        free += remaining / work
        rate += 1 / work
        end = (1 + free) / rate
    return end
