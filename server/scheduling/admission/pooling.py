"""The Pooling: how much less time than apart what waits takes a device where sizes share runs."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

from server.scheduling.policy.choice import LONG_RUN_S
from server.scheduling.policy.device import Device
from server.scheduling.policy.mixed_sizes import CHEAPER
from server.scheduling.policy.padded_shapes import PaddedShapes
from server.scheduling.queue.tile import PaddedShape, Priority
from server.scheduling.queue.tile_queue import TileQueue

Waiting = dict[PaddedShape, int]
"""Jobs by padded_shape."""


class Pooling:
    """What sharing saves of the backlog, found out when it is asked for and kept until the queue changes.

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
        """Take note that other tiles wait than before."""
        self._known.clear()

    def saved_s(self, device: Device, priority: Priority) -> float:
        """The predicted seconds that a device needs less than apart for all tiles of `priority` and above."""
        if not device.masks:
            return 0.0
        seconds = self._known.get((device.name, priority))
        if seconds is None:
            interactive, batch = self._waiting(priority)
            padded_shapes = self._padded_shapes.chosen
            seconds = saved_s(interactive, padded_shapes, device) + saved_s(batch, padded_shapes, device, LONG_RUN_S)
            self._known[device.name, priority] = seconds
        return seconds

    def _waiting(self, priority: Priority) -> tuple[Waiting, Waiting]:
        """Count the tiles of each class that may share runs.

        For the batch class, padded shapes that have tiles of both classes, or reserved batch tiles, are left out.
        """
        buckets = self._queue.buckets
        interactive = Counter({bucket.padded_shape: len(bucket.classes[0]) for bucket in buckets})
        interactive += self._reserved[Priority.INTERACTIVE]  # drops those without tiles
        if priority is Priority.INTERACTIVE:
            return interactive, {}
        batch = +Counter({bucket.padded_shape: len(bucket.classes[1]) for bucket in buckets})
        apart = (interactive.keys() & batch.keys()) | self._reserved[Priority.BATCH].keys()
        return _without(interactive, apart), _without(batch, apart)


def _without(counts: Waiting, left_out: Set[PaddedShape]) -> Waiting:
    return {padded_shape: count for padded_shape, count in counts.items() if padded_shape not in left_out}


class _Part(NamedTuple):
    """Images that leave together, whatever else is in their run, and the seconds that a run of them alone takes."""

    padded_shape: PaddedShape
    images: int
    seconds: float


def saved_s(
    waiting: Mapping[PaddedShape, int],
    padded_shapes: Iterable[PaddedShape],
    device: Device,
    longest_s: float = math.inf,
) -> float:
    """The predicted seconds that shared runs save of `device.predict_all` of all that waits.

    By the rule of `sharing`: what of a bucket does not fill a run joins one as a whole if that costs less than a run of
    its own, and a run is shared if it takes less time than its parts apart. But from small to large each part goes into
    the first of the `padded_shapes` that it shares with another one, and what does not fill a run there is a part
    again for
    the larger ones: one pass over all, where the scheduler looks at all padded_shapes for each run. A bucket whose
    run would take longer than `longest_s` is left out.
    """
    parts = []
    for padded_shape, count in waiting.items():
        rest = count % device.room(padded_shape)
        if rest and (seconds := device.predict(padded_shape, rest)) <= longest_s:
            parts.append(_Part(padded_shape, rest, seconds))
    saved = 0.0
    for padded_shape in padded_shapes:
        if len(parts) < 2:
            break
        height, width = padded_shape
        inside = [part for part in parts if part[0][0] <= height and part[0][1] <= width]
        if len(inside) > 1 and padded_shape not in device.untaken:
            left = [part for part in parts if part[0][0] > height or part[0][1] > width]
            saved += _pooled(inside, padded_shape, device, left)
            parts = left
    return saved


def _pooled(parts: list[_Part], padded_shape: PaddedShape, device: Device, left: list[_Part]) -> float:
    """The seconds that runs of `padded_shape` save where `parts` share them; what could still be pooled goes to
    `left`."""
    alone, room = device.predict(padded_shape, 1), device.room(padded_shape)
    each = device.predict(padded_shape, 2) - alone
    joining: list[_Part] = []
    for part in parts:
        (joining if part[2] > each * part[1] and part[1] < room else left).append(part)
    joining.sort(key=_seconds_an_image, reverse=True)
    saved = 0.0
    while joining:
        run, later, images, seconds = [], [], 0, 0.0
        for part in joining:
            if images + part[1] <= room:
                run.append(part)
                images += part[1]
                seconds += part[2]
            else:
                later.append(part)
        together = alone + each * (images - 1)
        if len(run) > 1 and together < CHEAPER * seconds:
            saved += seconds - together
            if images < room:
                left.append(_Part(padded_shape, images, together))
        else:
            left += run
        joining = later
    return saved


def _seconds_an_image(part: _Part) -> float:
    return part[2] / part[1]
