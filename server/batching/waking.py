"""The waking: which idle device is told that there is work. All of it under the queue's lock."""

from collections.abc import Collection

from server.batching.device import Device
from server.batching.job import Job
from server.batching.job_queue import JobQueue


def wake_for(job: Job, devices: Collection[Device], queue: JobQueue) -> None:
    """Wake the idle device that would end a new job first, unless it waits for more of them."""
    idle = [device for device in devices if not device.running]
    if not idle:
        return
    canvas = job.canvas
    device = idle[0] if len(idle) == 1 else min(idle, key=lambda device: device.predict(canvas, 1))
    pause = device.pause
    if pause is not None and pause.canvas == canvas and job.deadline is None:
        lane = queue.lane(canvas)
        if lane is not None and len(lane) < pause.jobs:
            return
    device.wake.notify()


def wake_idle(devices: Collection[Device], besides: Device) -> None:
    """Wake the other idle devices, because there is work left for them.

    One in a pause knows of it; and two that leave a job to a third would wake each other without end.
    """
    for device in devices:
        if device is not besides and device.is_idle and device.pause is None:
            device.wake.notify()


def wake_all(devices: Collection[Device]) -> None:
    """Wake every device, because what they may take has changed."""
    for device in devices:
        device.wake.notify_all()
