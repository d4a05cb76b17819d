"""The choice: which lane a device runs next, with how many of its jobs."""

from collections.abc import Iterable
from dataclasses import dataclass

from server.batching.device import Device
from server.batching.job import Canvas, Job
from server.batching.lane import Lane

# A head that has waited through so many of the longest runs weighs as much as a full run.
AGE_RUNS = 2.0
# Of every so many runs one goes to batch jobs that waited out their patience, if there are any.
BATCH_SHARE_RUNS = 8
# Whoever comes next waits for the run that goes on. One of batch jobs that would take longer than this is cut to the
# fewest images that leave it nearly as many of them a second.
LONG_RUN_S = 0.05
NEARLY_AS_FAST = 0.95


@dataclass(frozen=True, slots=True)
class Choice:
    """The next run: `count` jobs of `lane`, in predicted `seconds`."""

    lane: Lane
    count: int
    seconds: float
    pressing: bool = False
    """Chosen for a deadline or for a wait at its bound, whatever it is worth."""
    batch_first: bool = False
    canvas: Canvas | None = None
    """That of a run of several sizes; None: of one size, that of the lane."""
    joins: tuple[tuple[Lane, int], ...] = ()
    """Further lanes whose jobs run too, and how many of each."""

    @property
    def images(self) -> int:
        """All jobs of the run."""
        return self.count + sum(count for _, count in self.joins)


def choose(lanes: Iterable[Lane], device: Device, now: float, *, batch_share: bool = False) -> Choice | None:
    """Choose for a device that could start at `now`.

    Interactive before batch, except where `batch_share` gives this run to batch jobs that are overdue. In the class
    a job overdue, or one that would miss its deadline behind the longest other run, goes first, the earliest due of
    them; else the lane with the most useful pixels per predicted second, relative to a full run of its canvas, plus
    a bonus for the age of its head.
    """
    if batch_share:
        overdue = [lane for lane in lanes if lane.classes[1] and lane.classes[1][0].due <= now]
        if overdue:
            lane = min(overdue, key=lambda lane: lane.classes[1][0].due)
            return Choice(lane, *_extent(lane, device, now, batch_first=True), pressing=True, batch_first=True)
    first = [lane for lane in lanes if lane.classes[0]] or list(lanes)
    if len(first) < 2:
        return Choice(first[0], *_extent(first[0], device, now)) if first else None
    runs = [(lane, *_extent(lane, device, now)) for lane in first]
    longest = max(seconds for _, _, seconds in runs)
    pressing = [run for run in runs if _presses(run[0].head, run[2], longest, now)]
    if pressing:
        return Choice(*min(pressing, key=lambda run: run[0].head.due), pressing=True)
    return Choice(*max(runs, key=lambda run: _worth(run[0], run[1], run[2], device, longest, now)))


def fullest(lanes: Iterable[Lane], device: Device, now: float) -> Choice | None:
    """Of the lanes that fill a run, the one that `choose` would take."""
    return choose([lane for lane in lanes if lane.has(device.room(lane.canvas), now)], device, now)


def _extent(lane: Lane, device: Device, now: float, *, batch_first: bool = False) -> tuple[int, float]:
    """How many jobs of a lane would run now, and for how many seconds."""
    canvas, count = lane.canvas, len(lane)
    count = min(count, device.room(canvas))
    seconds = device.predict(canvas, count)
    interactive = 0 if batch_first else len(lane.classes[0])
    if seconds > LONG_RUN_S and interactive < count:
        count = max(interactive, _nearly_as_fast(canvas, count, seconds, device))
        seconds = device.predict(canvas, count)
    deadline = lane.head.deadline
    if deadline is not None and now + seconds > deadline:
        # Fewer, where that keeps the head's deadline; where nothing does, the prediction may be wrong.
        fitting = count
        while fitting > 1 and now + device.predict(canvas, fitting) > deadline:
            fitting -= 1
        if now + (sooner := device.predict(canvas, fitting)) <= deadline:
            return fitting, sooner
    return count, seconds


def _nearly_as_fast(canvas: Canvas, count: int, seconds: float, device: Device) -> int:
    """The fewest images whose run has nearly as many a second as one of `count`, which takes `seconds`."""
    enough = NEARLY_AS_FAST * count / seconds
    return next(fewer for fewer in range(1, count + 1) if fewer >= enough * device.predict(canvas, fewer))


def _presses(head: Job, seconds: float, longest: float, now: float) -> bool:
    if head.deadline is None:
        return head.due <= now
    # One that is late already gains nothing by going first.
    return now + seconds <= head.deadline < now + longest + seconds


def _worth(lane: Lane, count: int, seconds: float, device: Device, longest: float, now: float) -> float:
    age = now - lane.head.enqueued_at
    if seconds <= 0:  # nothing was measured yet
        return age
    room = device.room(lane.canvas)
    rate = count * device.predict(lane.canvas, room) / (room * seconds)
    return rate + age / (AGE_RUNS * longest)
