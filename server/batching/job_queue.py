"""The JobQueue: all waiting jobs, in lanes."""

import threading
from collections.abc import Callable, Iterable, ValuesView
from dataclasses import dataclass, field

from server.batching.job import Canvas, Job
from server.batching.lane import Lane
from server.errors import NotReady, PromptIRServeError

Refusal = Callable[[], PromptIRServeError]


@dataclass(slots=True)
class Taken:
    """What one take removed: jobs to run together, all of one canvas, and jobs whose deadline had passed."""

    jobs: list[Job] = field(default_factory=list)
    expired: list[Job] = field(default_factory=list)


def _starting() -> PromptIRServeError:
    return NotReady("the server is starting; it has no backend yet")


def _nothing() -> None:
    """What is called at the close while nobody watches it."""


class JobQueue:
    """Keeps jobs in lanes of one canvas and hands them out; safe to use from any thread.

    It refuses everything until `open`, after `pause`, and for good after `close`; what waits at `close` can still be
    taken. `lock` may be held over several calls.
    """

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self.lock = threading.RLock()
        self.closed = False
        self.on_close: Callable[[], None] = _nothing
        """Called at the close, with the lock held."""
        self._lanes: dict[Canvas, Lane] = {}
        self._jobs = 0
        self._pixels = 0
        self._running: dict[Job, object] = {}
        self._refusal: Refusal | None = _starting

    @property
    def jobs(self) -> int:
        """Jobs that wait."""
        return self._jobs

    @property
    def pixels(self) -> int:
        """Pixels that wait."""
        return self._pixels

    @property
    def lanes(self) -> ValuesView[Lane]:
        """The lanes with at least one job; to be looked at with the lock held."""
        return self._lanes.values()

    @property
    def is_open(self) -> bool:
        return self._refusal is None

    def open(self) -> None:
        """Admit jobs from now on; a queue that was closed stays closed."""
        with self.lock:
            if not self.closed:
                self._refusal = None

    def pause(self, refusal: Refusal) -> None:
        """Refuse further jobs with `refusal()` until `open`; what waits stays."""
        with self.lock:
            if not self.closed:
                self._refusal = refusal

    def close(self, refusal: Refusal) -> None:
        """Refuse every further job with `refusal()`, for good; the first call decides the refusal."""
        with self.lock:
            if not self.closed:
                self._refusal = refusal
            self.closed = True
            self.on_close()

    def check_open(self) -> None:
        """Raise what a job would be refused with, if the queue is not open."""
        if (refusal := self._refusal) is not None:
            raise refusal()

    def lane(self, canvas: Canvas) -> Lane | None:
        """The lane of a canvas, if it has jobs."""
        return self._lanes.get(canvas)

    def has_room(self, pixels: int) -> bool:
        """Whether a job of so many pixels would be taken; an empty queue has room for any job, however large."""
        return not self._jobs or self._pixels + pixels <= self.max_pixels

    def offer(self, job: Job, *, admitted: bool = False) -> bool:
        """Add a job to its lane; False if there is no room. Raises what the queue refuses with while not open.

        Room was made before for a job that is `admitted` already.
        """
        with self.lock:
            self.check_open()
            if not admitted and not self.has_room(job.pixel_count):
                return False
            lane = self._lanes.get(job.canvas)
            if lane is None:
                lane = self._lanes[job.canvas] = Lane(job.canvas)
            lane.add(job)
            self._jobs += 1
            self._pixels += job.pixel_count
            return True

    def discard(self, job: Job) -> bool:
        """Remove a job that waits; False if it has left already."""
        with self.lock:
            lane = self._lanes.get(job.canvas)
            if lane is None or not lane.discard(job):
                return False
            self._left(lane)
            return True

    def take(self, lane: Lane, count: int, now: float, device: object, *, batch_first: bool = False) -> Taken:
        """Remove up to `count` jobs from the head of a lane, to run on `device`; nothing may be left to run.

        Jobs whose caller has left are dropped on the way, and those whose deadline has passed are set apart. With
        `batch_first` the batch class leaves before the interactive one.
        """
        taken = Taken()
        with self.lock:
            while len(lane) and len(taken.jobs) < count:
                job = lane.pop(batch_first)
                self._left(lane)
                if job.future.done():
                    continue
                job.taken = not job.expired(now)
                (taken.jobs if job.taken else taken.expired).append(job)
            # Under the same lock, so that no moment exists in which a job is neither waiting nor running.
            self._running |= dict.fromkeys(taken.jobs + taken.expired, device)
        return taken

    @property
    def running(self) -> list[Job]:
        """The jobs that were taken, until `release`."""
        with self.lock:
            return list(self._running)

    def release(self, jobs: Iterable[Job] | None = None) -> None:
        """Forget jobs that were taken, all of them by default: each has its end."""
        with self.lock:
            for job in list(self._running) if jobs is None else jobs:
                self._running.pop(job, None)

    def release_from(self, device: object) -> list[Job]:
        """Forget and return the jobs that were taken to run on a device."""
        with self.lock:
            jobs = [job for job, place in self._running.items() if place == device]
            self.release(jobs)
            return jobs

    def clear(self) -> list[Job]:
        """Remove and return everything that waits."""
        with self.lock:
            jobs = [job for lane in self._lanes.values() for job in lane]
            self._lanes.clear()
            self._jobs = self._pixels = 0
            return jobs

    def _left(self, lane: Lane) -> None:
        self._jobs -= 1
        self._pixels -= lane.canvas.height * lane.canvas.width
        if not len(lane):
            del self._lanes[lane.canvas]
