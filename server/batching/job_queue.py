"""The JobQueue: all waiting jobs, in lanes of one shape."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice

from server.batching.job import Job, Shape
from server.errors import NotReady, PromptIRServeError

Refusal = Callable[[], PromptIRServeError]


@dataclass(slots=True)
class Taken:
    """What one take removed: jobs to run together, all of one shape, and jobs whose deadline had passed."""

    jobs: list[Job] = field(default_factory=list)
    expired: list[Job] = field(default_factory=list)


def _starting() -> PromptIRServeError:
    return NotReady("the server is starting; it has no backend yet")


class JobQueue:
    """Admits or refuses jobs and hands them out lane by lane; safe to use from any thread.

    Only equal shapes can leave together, because a lane has one shape. It refuses everything until `open`, and again
    after `close`; what waits at `close` can still be taken.
    """

    def __init__(self, max_jobs: int, max_pixels: int) -> None:
        self.max_jobs = max_jobs
        self.max_pixels = max_pixels
        self._lanes: dict[Shape, deque[Job]] = {}
        self._jobs = 0
        self._pixels = 0
        self._running: dict[Job, None] = {}
        self._refusal: Refusal | None = _starting
        self._closed = False
        self._changed = threading.Condition()

    @property
    def jobs(self) -> int:
        """Jobs that wait."""
        return self._jobs

    @property
    def pixels(self) -> int:
        """Pixels that wait."""
        return self._pixels

    @property
    def is_open(self) -> bool:
        return self._refusal is None

    def open(self) -> None:
        """Admit jobs from now on; a queue that was closed stays closed."""
        with self._changed:
            if not self._closed:
                self._refusal = None

    def close(self, refusal: Refusal) -> None:
        """Refuse every further job with `refusal()` and wake a waiting taker; the first call decides the refusal."""
        with self._changed:
            if not self._closed:
                self._refusal = refusal
            self._closed = True
            self._changed.notify_all()

    def offer(self, job: Job) -> bool:
        """Append a job to its lane; False if there is no room. Raises what the queue refuses with while not open.

        An empty queue has room for any job, however large.
        """
        with self._changed:
            if self._refusal is not None:
                raise self._refusal()
            pixels = self._pixels + job.pixel_count
            if self._jobs and (self._jobs >= self.max_jobs or pixels > self.max_pixels):
                return False
            self._lanes.setdefault(job.shape, deque()).append(job)
            self._jobs += 1
            self._pixels = pixels
            self._changed.notify()
            return True

    def discard(self, job: Job) -> bool:
        """Remove a job that waits; False if it has left already."""
        with self._changed:
            lane = self._lanes.get(job.shape)
            if lane is None or job not in lane:
                return False
            lane.remove(job)
            self._removed(job)
            return True

    def wait(self) -> bool:
        """Block until a job waits (True), or until the queue is closed with nothing in it (False)."""
        with self._changed:
            while not self._jobs:
                if self._closed:
                    return False
                self._changed.wait()
            return True

    def take(self, max_jobs: int, max_pixels: int, now: float, *, only_full: bool = False) -> Taken:
        """Remove the oldest job's lane mates, oldest first: at most `max_jobs` of at most `max_pixels` together.

        The first job goes whatever its size. Jobs whose caller has left are dropped on the way, and those whose
        deadline has passed are set apart. Does not block; nothing may be left to run. With `only_full` nothing is
        removed unless no further job could go with those that are left to run.
        """
        taken = Taken()
        with self._changed:
            while self._lanes and not taken.jobs:
                # A lane is never empty, so its head is its oldest job.
                lane = min(self._lanes.values(), key=lambda lane: lane[0].enqueued_at)
                room = max(1, min(max_jobs, max_pixels // lane[0].pixel_count))
                if only_full and not _has(lane, room, now):
                    break
                self._take_from(lane, taken, room, now)
            # Under the same lock, so that no moment exists in which a job is neither waiting nor running.
            self._running |= dict.fromkeys(taken.jobs + taken.expired)
        return taken

    @property
    def running(self) -> list[Job]:
        """The jobs that were taken, until `release`."""
        with self._changed:
            return list(self._running)

    def release(self, jobs: Iterable[Job] | None = None) -> None:
        """Forget jobs that were taken, all of them by default: each has its end."""
        with self._changed:
            for job in list(self._running) if jobs is None else jobs:
                self._running.pop(job, None)

    def clear(self) -> list[Job]:
        """Remove and return everything that waits."""
        with self._changed:
            jobs = [job for lane in self._lanes.values() for job in lane]
            self._lanes.clear()
            self._jobs = self._pixels = 0
            return jobs

    def _take_from(self, lane: deque[Job], taken: Taken, room: int, now: float) -> None:
        while lane and len(taken.jobs) < room:
            job = lane.popleft()
            self._removed(job)
            if job.future.done():
                continue
            if job.expired(now):
                taken.expired.append(job)
            else:
                job.taken = True
                taken.jobs.append(job)

    def _removed(self, job: Job) -> None:
        self._jobs -= 1
        self._pixels -= job.pixel_count
        if not self._lanes[job.shape]:
            del self._lanes[job.shape]


def _has(lane: deque[Job], count: int, now: float) -> bool:
    """Whether at least `count` jobs of the lane are left to run."""
    left = (job for job in lane if not job.future.done() and not job.expired(now))
    return sum(1 for _ in islice(left, count)) == count
