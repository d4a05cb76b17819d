"""The Batcher: decides when waiting jobs become a batch."""

import asyncio
import time
from collections.abc import Callable

import numpy as np

from server.backends.base import Pixels
from server.batching.cost_model import CostModel
from server.batching.job import Batch, Completion, Job, fail_soon
from server.batching.job_queue import JobQueue
from server.errors import DeadlineExceeded, QueueFull, Refused
from server.metrics import Metrics
from server.settings import MAX_RUN_PIXELS

Clock = Callable[[], float]
"""Seconds that only go forward."""

# A client told to come back sooner would mostly be told so again.
MIN_RETRY_AFTER_S = 1.0


class Batcher:
    """Greedy: whenever the worker asks, the oldest job and its lane mates are the next batch; there is no timer.

    It runs nothing. `submit` belongs to the event loop, `poll`, `next_batch`, `expire` and `finished` to the worker's
    thread. Deadlines are seconds on `clock`.
    """

    def __init__(
        self,
        queue: JobQueue,
        max_batch: int,
        metrics: Metrics,
        clock: Clock = time.monotonic,
        *,
        max_run_pixels: int = MAX_RUN_PIXELS,
    ) -> None:
        self.queue = queue
        self.max_batch = max_batch
        self.max_run_pixels = max_run_pixels
        self.cost_model = CostModel()
        self._metrics = metrics
        self._clock = clock
        self._running: tuple[Batch, ...] = ()
        self._run_began = 0.0
        metrics.watch_queue(jobs=lambda: queue.jobs, pixels=lambda: queue.pixels)

    async def submit(self, pixels: Pixels, deadline: float | None = None) -> Completion:
        """Wait for the restored copy of one tile: float32 (3, H, W), H and W multiples of the backend's size multiple.

        Raises QueueFull, NotReady or Draining at once; DeadlineExceeded where the deadline passes before the run;
        BackendError where the run fails. Cancelling the caller takes the job out of the queue; a run that has begun
        goes on without it. The array must not change until then.
        """
        if pixels.dtype != np.float32 or pixels.ndim != 3 or pixels.shape[0] != 3:  # it would fail its lane mates
            raise ValueError(f"a tile is float32 (3, H, W), not {pixels.dtype} {pixels.shape}")
        job = Job(pixels, asyncio.get_running_loop().create_future(), self._clock(), deadline)
        self._admit(job)
        # Counted here, where the caller is told, so that a job which expires as its caller leaves counts once.
        try:
            return await job.future
        except DeadlineExceeded:
            self._metrics.count_dropped("expired")
            raise
        except asyncio.CancelledError:
            self.queue.discard(job)
            self._metrics.count_dropped("abandoned" if job.taken else "cancelled")
            if job.future.done() and not job.future.cancelled():
                job.future.exception()  # ended in the same turn of the loop: mark an error as seen
            raise

    def next_batch(self) -> Batch | None:
        """Block until there is a batch to run; None once the queue is closed and empty."""
        while self.queue.wait():
            if (batch := self.poll()) is not None:
                return batch
        return None

    def poll(self, *, only_full: bool = False) -> Batch | None:
        """Return the batch to run now, or None if no job is left to run; expired jobs end here.

        With `only_full` it returns that batch only if waiting longer could not make it larger: one to begin while
        another runs. Where a batch is one image by the settings, that is never.
        """
        if only_full and self.max_batch == 1:  # it is asked for one at a time, and what waits can still be taken back
            return None
        now = self._clock()
        taken = self.queue.take(self.max_batch, self.max_run_pixels, now, only_full=only_full)
        self._expire(taken.expired)
        self.queue.release(taken.expired)
        if not taken.jobs:
            return None
        batch = Batch(taken.jobs, now)
        if not self._running:
            self._run_began = now
        self._running += (batch,)
        return batch

    def expire(self, batch: Batch) -> None:
        """End those jobs of a batch taken early whose deadline has passed by now, where its run can start."""
        now = self._clock()
        self._expire([job for job in batch.jobs if job.expired(now)])

    def finished(self, batch: Batch, seconds: float | None) -> None:
        """Learn that a run took `seconds`; None if it failed, because failing fast says nothing about the next run."""
        self._running = tuple(other for other in self._running if other is not batch)
        self._run_began = self._clock()
        if seconds is not None:
            self.cost_model.observe(batch.pixel_count, seconds)

    def seconds_until_room(self, pixels: int) -> float:
        """Predict when a refused job of `pixels` would fit: after the present runs, and the runs of what must leave."""
        running, seconds = self._running, 0.0
        if running:
            elapsed = self._clock() - self._run_began
            seconds = max(0.0, self.cost_model.predict(running[0].pixel_count) - elapsed)
            seconds += sum(self.cost_model.predict(batch.pixel_count) for batch in running[1:])
        excess = max(0, self.queue.pixels + pixels - self.queue.max_pixels)
        return max(MIN_RETRY_AFTER_S, seconds + self.cost_model.predict(excess))

    def _expire(self, jobs: list[Job]) -> None:
        fail_soon(jobs, lambda: DeadlineExceeded("the deadline passed while the image waited"))

    def _admit(self, job: Job) -> None:
        try:
            if job.expired(job.enqueued_at):
                raise DeadlineExceeded("the deadline had passed before the image was queued")
            if not self.queue.offer(job):
                raise QueueFull(
                    f"{self.queue.jobs} images wait already",
                    retry_after_s=self.seconds_until_room(job.pixel_count),
                )
        except (Refused, DeadlineExceeded) as error:
            self._metrics.count_refusal(error.slug)
            raise
