"""The Lane: the waiting jobs of one canvas."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain, islice
from operator import attrgetter

from server.batching.job import Canvas, Job

_due = attrgetter("due")


class Lane:
    """Jobs in the order they leave: interactive before batch, and in each class the earliest due first.

    Only a lane makes a batch, so only equal canvases can leave together.
    """

    __slots__ = ("canvas", "classes")

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        self.classes: tuple[list[Job], list[Job]] = ([], [])
        """The jobs by priority."""

    def __len__(self) -> int:
        return len(self.classes[0]) + len(self.classes[1])

    def __iter__(self) -> Iterator[Job]:
        return chain(*self.classes)

    @property
    def head(self) -> Job:
        """The job that leaves first; IndexError if there is none."""
        return (self.classes[0] or self.classes[1])[0]

    def add(self, job: Job) -> None:
        jobs = self.classes[job.priority]
        if not jobs or jobs[-1].due <= job.due:  # as good as always
            jobs.append(job)
        else:
            jobs.insert(bisect_right(jobs, job.due, key=_due), job)

    def discard(self, job: Job) -> bool:
        """Remove a job; False if it is not here."""
        jobs = self.classes[job.priority]
        if job not in jobs:
            return False
        jobs.remove(job)
        return True

    def pop(self, batch_first: bool = False) -> Job:
        """Remove and return the head, or that of the batch class if it is to go first."""
        interactive, batch = self.classes
        return (batch if batch and (batch_first or not interactive) else interactive).pop(0)

    def has(self, count: int, now: float) -> bool:
        """Whether at least `count` jobs are left to run: caller still there, deadline not passed."""
        if len(self) < count:
            return False
        left = (job for job in self if not job.future.done() and not job.expired(now))
        return sum(1 for _ in islice(left, count)) == count
