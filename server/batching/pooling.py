"""The Pooling: how much less time than apart what waits takes a device where sizes share runs."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from server.batching.canvases import Canvases
from server.batching.choice import LONG_RUN_S
from server.batching.device import Device
from server.batching.job import Canvas, Priority
from server.batching.job_queue import JobQueue
from server.batching.sharing import CHEAPER

Waiting = dict[Canvas, int]
"""Jobs by canvas."""


class Pooling:
    """What sharing saves of the backlog, found out when it is asked for and kept until the queue changes.

    To be used under the batcher's lock.
    """

    def __init__(self, queue: JobQueue, owed: Counter[Canvas], canvases: Canvases) -> None:
        self._queue = queue
        self._owed = owed
        self._canvases = canvases
        self._known: dict[tuple[str, Priority], float] = {}

    def changed(self) -> None:
        """Take note that other jobs wait than before."""
        self._known.clear()

    def saved_s(self, device: Device, priority: Priority) -> float:
        """The predicted seconds that a device needs less than apart for all jobs of `priority` and above."""
        if not device.masks:
            return 0.0
        seconds = self._known.get((device.name, priority))
        if seconds is None:
            interactive, batch = self._waiting(priority)
            canvases = self._canvases.chosen
            seconds = saved_s(interactive, canvases, device) + saved_s(batch, canvases, device, LONG_RUN_S)
            self._known[device.name, priority] = seconds
        return seconds

    def _waiting(self, priority: Priority) -> tuple[Waiting, Waiting]:
        """What may share runs, of each class. What another class waits beside, or more is owed of, counts as apart."""
        lanes = [(lane.canvas, len(lane.classes[0]), len(lane.classes[1])) for lane in self._queue.lanes]
        if priority is Priority.INTERACTIVE:
            return {canvas: interactive for canvas, interactive, _ in lanes}, {}
        pure = [lane for lane in lanes if not (lane[1] and lane[2]) and lane[0] not in self._owed]
        return {lane[0]: lane[1] for lane in pure}, {lane[0]: lane[2] for lane in pure}


class _Part(NamedTuple):
    """Images that leave together, whatever else is in their run, and the seconds that a run of them alone takes."""

    canvas: Canvas
    images: int
    seconds: float


def saved_s(
    waiting: Mapping[Canvas, int], canvases: Iterable[Canvas], device: Device, longest_s: float = math.inf
) -> float:
    """The predicted seconds that shared runs save of `device.predict_all` of all that waits.

    By the rule of `sharing`: what of a lane does not fill a run joins one as a whole if that costs less than a run of
    its own, and a run is shared if it takes less time than its parts apart. But from small to large each part goes into
    the first of the `canvases` that it shares with another one, and what does not fill a run there is a part again for
    the larger ones: one pass over all, where the scheduler looks at all canvases for each run. A lane whose run would
    take longer than `longest_s` is left out.
    """
    parts = []
    for canvas, count in waiting.items():
        rest = count % device.room(canvas)
        if rest and (seconds := device.predict(canvas, rest)) <= longest_s:
            parts.append(_Part(canvas, rest, seconds))
    saved = 0.0
    for canvas in canvases:
        if len(parts) < 2:
            break
        height, width = canvas
        inside = [part for part in parts if part[0][0] <= height and part[0][1] <= width]
        if len(inside) > 1 and canvas not in device.untaken:
            left = [part for part in parts if part[0][0] > height or part[0][1] > width]
            saved += _pooled(inside, canvas, device, left)
            parts = left
    return saved


def _pooled(parts: list[_Part], canvas: Canvas, device: Device, left: list[_Part]) -> float:
    """The seconds that runs of `canvas` save where `parts` share them; what could still be pooled goes to `left`."""
    alone, room = device.predict(canvas, 1), device.room(canvas)
    each = device.predict(canvas, 2) - alone
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
                left.append(_Part(canvas, images, together))
        else:
            left += run
        joining = later
    return saved


def _seconds_an_image(part: _Part) -> float:
    return part[2] / part[1]
