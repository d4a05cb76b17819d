"""The backlog: predicts how long the admitted tiles take, with the runs that sizes will share, and bounds it."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Set

from server.errors import QueueFull
from server.scheduling.policy.device import Device
from server.scheduling.policy.mixed_sizes import PaddedShapes, saved_s
from server.scheduling.policy.planner import LONG_RUN_S
from server.scheduling.queue.tile import PaddedShape, Priority
from server.scheduling.queue.tile_queue import TileQueue

# A client told to come back sooner would most likely be refused again.
MIN_RETRY_AFTER_S = 1.0
# The quantile of the prediction error that the bound allows for, the step size of its estimator as a part of the bound,
# and the part of the bound from which on predicted waits teach it.
QUANTILE, STEP, LONG_WAIT = 0.99, 0.001, 0.5
# The largest margin, as a part of the bound: some long waits must still be admitted, to learn from.
LARGEST_MARGIN = 0.4

Saved = Callable[[Device], float]
"""Returns the seconds that mixed-size batches save a device for all waiting tiles."""


def nothing(device: Device) -> float:
    """Save nothing: sizes do not share runs."""
    return 0.0


def drain_s(devices: Collection[Device], priority: Priority, now: float, saved: Saved = nothing) -> float:
    """Predict the seconds until all tiles of `priority` and above are done, with the work shared by the devices.

    Batch tiles delay an interactive tile only by the current run, so they do not count for it.
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
    """Predict the seconds until `count` further tiles would be answered if they went last, behind `waiting` of their
    shape.

    A tile that is admitted with time to go last can be answered in time by earliest deadline first, because all later
    ones are admitted by the same rule.
    """
    parts, soonest = [], math.inf
    for device in devices:
        remaining = device.remaining_s(now)
        parts.append((remaining, device.work_with(padded_shape, waiting + count, priority) - saved(device)))
        soonest = min(soonest, remaining + device.predict(padded_shape, 1))
    return max(_shared(parts), soonest) if parts else 0.0


def usual_s(devices: Collection[Device], tiles: int) -> float:
    """Predict the seconds of a number of tiles of the usual size, shared by the devices; 0 before the first run."""
    rate = sum(1 / device.tile_s for device in devices if device.tile_s)
    return tiles / rate if rate else 0.0


def _shared(parts: list[tuple[float, float]]) -> float:
    """Return when devices end that share work like a fluid; each is busy for some seconds and needs some for it all."""
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


class WaitBound:
    """Rejects requests whose predicted wait exceeds `seconds`, with a margin learned so that about 99 % of the admitted
    ones meet it.

    The margin follows a high quantile of the prediction errors. They stand for what no prediction knows: gaps between
    runs, tiles that joined them, other users of the processors.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.lateness_s = 0.0
        """The margin: how much later than predicted nearly all long waits end."""

    def allows(self, predicted_s: float) -> bool:
        """Tell whether a predicted wait is within the bound."""
        return predicted_s + self.lateness_s <= self.seconds

    def check(self, predicted_s: float, what: str) -> None:
        """Raise QueueFull if a predicted wait is too long; `what` is the subject of the message."""
        if not self.allows(predicted_s):
            wait_s = predicted_s + self.lateness_s
            retry_after_s = max(MIN_RETRY_AFTER_S, wait_s - self.seconds)
            raise QueueFull(f"{what} takes {wait_s:.1f} s already", retry_after_s)

    def learn(self, predicted_s: float, took_s: float) -> None:
        """Learn how long a predicted wait took; short waits say nothing about the bound."""
        if predicted_s > LONG_WAIT * self.seconds:
            late = took_s - predicted_s > self.lateness_s
            step = STEP * self.seconds * (QUANTILE if late else QUANTILE - 1)
            self.lateness_s = min(max(0.0, self.lateness_s + step), LARGEST_MARGIN * self.seconds)


class MixedSizeSavings:
    """Estimates how much device time mixed-size batches save for the waiting tiles; kept until the queue changes.

    To be used under the batcher's lock.
    """

    def __init__(
        self, queue: TileQueue, reserved: Mapping[Priority, Counter[PaddedShape]], padded_shapes: PaddedShapes
    ) -> None:
        self._queue = queue
        self._reserved = reserved
        self._padded_shapes = padded_shapes
        self._known: dict[tuple[str, Priority], float] = {}

    def changed(self) -> None:
        """Note that the queue has changed."""
        self._known.clear()

    def saved_s(self, device: Device, priority: Priority) -> float:
        """Estimate the seconds that a device saves for all tiles of `priority` and above."""
        if not device.mixes_any:
            return 0.0
        seconds = self._known.get((device.name, priority))
        if seconds is None:
            interactive, batch = self._waiting(priority)
            shapes = self._padded_shapes.chosen
            seconds = saved_s(interactive, shapes, device) + saved_s(batch, shapes, device, LONG_RUN_S)
            self._known[device.name, priority] = seconds
        return seconds

    def _waiting(self, priority: Priority) -> tuple[dict[PaddedShape, int], dict[PaddedShape, int]]:
        """Return the interactive and the batch tiles that may share runs, by padded shape.

        For the batch class, padded shapes that have tiles of both classes, or reserved batch tiles, are left out.
        """
        views = [bucket.view for bucket in self._queue.buckets]
        interactive = Counter({view.padded_shape: view.interactive for view in views})
        interactive += self._reserved[Priority.INTERACTIVE]  # drops shapes without tiles
        if priority is Priority.INTERACTIVE:
            return interactive, {}
        batch = +Counter({view.padded_shape: view.tiles - view.interactive for view in views})
        apart = (interactive.keys() & batch.keys()) | self._reserved[Priority.BATCH].keys()
        return _without(interactive, apart), _without(batch, apart)


def _without(counts: Mapping[PaddedShape, int], left_out: Set[PaddedShape]) -> dict[PaddedShape, int]:
    return {padded_shape: count for padded_shape, count in counts.items() if padded_shape not in left_out}
