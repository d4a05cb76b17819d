"""The Admission: which jobs are refused before they wait, and when they may come back."""

from collections.abc import Mapping

from server.batching import backlog
from server.batching.device import Device
from server.batching.job import Canvas, Priority
from server.batching.job_queue import JobQueue
from server.errors import DeadlineExceeded, DeadlineUnmet, QueueFull

# A client told to come back sooner would mostly be told so again.
MIN_RETRY_AFTER_S = 1.0


class Admission:
    """Bounds what waits: its pixels by the queue's memory, its time by `max_backlog_s` and by the job's deadline.

    While a device is idle and nothing waits, any job is taken that its deadline does not forbid.
    """

    def __init__(self, queue: JobQueue, devices: Mapping[str, Device], max_backlog_s: float) -> None:
        self.max_backlog_s = max_backlog_s
        self._queue = queue
        self._devices = devices

    def check(self, canvas: Canvas, deadline: float | None, priority: Priority, now: float) -> None:
        """Raise what a job that arrives now is refused with, if it is; `deadline` and `now` on the batcher's clock."""
        self._queue.check_open()
        if deadline is not None and deadline <= now:
            raise DeadlineExceeded("the deadline had passed before the image was queued")
        devices = self._devices.values()
        pixels = canvas.height * canvas.width
        if not self._queue.has_room(pixels):
            excess = self._queue.pixels + pixels - self._queue.max_pixels
            seconds = backlog.drain_s(devices, Priority.BATCH, now) * min(1.0, excess / self._queue.pixels)
            raise QueueFull(f"{self._queue.jobs} images wait already", max(MIN_RETRY_AFTER_S, seconds))
        lane = self._queue.lane(canvas)
        waiting = 0 if lane is None else len(lane.classes[0]) if priority is Priority.INTERACTIVE else len(lane)
        seconds = backlog.answered_s(devices, canvas, waiting, priority, now)
        if deadline is not None and now + seconds > deadline:
            self._refuse_deadline(canvas, deadline - now, seconds)
        if seconds > self.max_backlog_s and (self._queue.jobs or not any(device.is_idle for device in devices)):
            raise QueueFull(
                f"what was admitted before takes {seconds:.1f} s already",
                retry_after_s=max(MIN_RETRY_AFTER_S, seconds - self.max_backlog_s),
            )

    def _refuse_deadline(self, canvas: Canvas, patience_s: float, seconds: float) -> None:
        alone = min(device.predict(canvas, 1) for device in self._devices.values())
        if alone > patience_s:
            raise DeadlineExceeded(f"a run of this image alone takes {alone:.3f} s, longer than its deadline allows")
        raise DeadlineUnmet(
            f"with what was admitted before, the answer would take {seconds:.3f} s",
            retry_after_s=max(MIN_RETRY_AFTER_S, seconds - patience_s),
        )
