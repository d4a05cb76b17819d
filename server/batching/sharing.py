"""The sharing: which waiting sizes run together in one canvas, where that takes a device less time than apart."""

import math
from collections.abc import Collection, Iterable
from dataclasses import replace
from heapq import nlargest

from server.batching.canvases import fits
from server.batching.choice import Choice
from server.batching.device import Device
from server.batching.job import Canvas, Priority
from server.batching.lane import Lane

# Sharing must take that much less time than the runs apart: the predictions are not better than that.
CHEAPER = 0.97
# Of more lanes only those that wait longest are looked at.
MOST_LANES = 24


def shared(run: Choice, lanes: Collection[Lane], canvases: Collection[Canvas], device: Device, start: float) -> Choice:
    """`run`, or a run in one canvas with the jobs of other lanes as well, if it is worth more.

    A lane joins as a whole, because what it saves is its run: if what its padding costs is less than that. Of the
    canvases the one is taken in which a second of the device does the most that would be done apart. A deadline that
    `run` keeps is kept, by a run of as many images as it allows.
    """
    own = run.lane.canvas
    if run.count >= device.room(own) or run.count < len(run.lane) or run.batch_first or len(lanes) < 2:
        return run
    priority = run.lane.head.priority
    joining = [_Part(lane, priority, device) for lane in _oldest(lanes) if lane is not run.lane]
    joining = [part for part in joining if part.count and part.saves > 0]
    deadline = run.lane.head.deadline
    until = math.inf if deadline is None or start + run.seconds > deadline else deadline - start
    best, most = run, 1 / CHEAPER
    # Until some were chosen from the traffic, the sizes that wait stand in.
    for canvas in {own, *(canvas for canvas in canvases or [part.canvas for part in joining] if fits(own, canvas))}:
        found = None if canvas in device.untaken else _filled(run, canvas, joining, device, until)
        if found is None:
            continue
        choice, apart = found
        if apart > most * choice.seconds:
            best, most = choice, apart / choice.seconds
    return best


class _Part:
    """What of a lane could join, and the seconds that its own run would take."""

    __slots__ = ("canvas", "count", "lane", "saves")

    def __init__(self, lane: Lane, priority: Priority, device: Device) -> None:
        self.lane = lane
        self.canvas = lane.canvas
        self.count = len(lane.classes[0]) if priority is Priority.INTERACTIVE else len(lane)
        if self.count >= device.room(self.canvas):  # it makes a full run of its own
            self.count = 0
        self.saves = device.predict(self.canvas, self.count) if self.count else 0.0


def _filled(
    run: Choice, canvas: Canvas, joining: Iterable[_Part], device: Device, longest_s: float
) -> tuple[Choice, float] | None:
    """The run in `canvas` with what is worth its padding, and the seconds that its jobs would take apart."""
    alone = device.predict(canvas, 1)
    each = device.predict(canvas, 2) - alone
    room = device.room(canvas)
    while room > run.count and alone + (room - 1) * each > longest_s:
        room -= 1
    room -= run.count
    if room <= 0:
        return None
    worth = [(part.saves - each * part.count, part) for part in joining if fits(part.canvas, canvas)]
    joins: list[tuple[Lane, int]] = []
    apart = run.seconds
    for gain, part in sorted(worth, key=lambda entry: entry[0] / entry[1].count, reverse=True):
        if gain <= 0:
            break
        if part.count <= room:
            room -= part.count
            joins.append((part.lane, part.count))
            apart += part.saves
    if not joins:
        return None
    count = run.count + sum(count for _, count in joins)
    return replace(run, canvas=canvas, joins=tuple(joins), seconds=device.predict(canvas, count)), apart


def _oldest(lanes: Collection[Lane]) -> Iterable[Lane]:
    if len(lanes) <= MOST_LANES:
        return lanes
    return nlargest(MOST_LANES, lanes, key=lambda lane: -lane.head.enqueued_at)
