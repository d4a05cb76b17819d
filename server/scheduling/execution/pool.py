"""The WorkerPool: supervises all devices, and ends the queued tiles if none is left."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence

from server.backends.base import BackendInfo
from server.errors import BackendUnavailable, Draining, NotReady
from server.metrics import DeviceCondition, Metrics
from server.scheduling.batcher import Batcher, Clock
from server.scheduling.execution.supervisor import NewWorker, Sleep, Supervisor
from server.scheduling.execution.worker import Infos, NewBackend, lost
from server.scheduling.queue.tile import settle

log = logging.getLogger(__name__)

PATIENCE_S = 20.0
"""How long tiles wait while no device works: long enough for a few restarts."""
# Consecutive failures on every device, which take a minute or more.
MOST_FAILED_STARTS = 8


def _draining() -> Draining:
    return Draining("the server is stopping and takes no new images")


def _no_backend() -> NotReady:
    return NotReady("the server has no working backend")


def _no_device() -> NotReady:
    return NotReady(f"the server has had no working device for {PATIENCE_S:.0f} seconds")


class WorkerPool:
    """Starts, drains and stops the devices, which all pull from one batcher.

    It is ready as soon as one device is. A device that cannot start initially fails the whole pool, so that a pool is
    never silently smaller than configured; a device that is lost later is restarted while the others continue. All
    methods belong to the event loop.
    """

    def __init__(
        self,
        devices: Sequence[str],
        new_worker: NewWorker,
        batcher: Batcher,
        metrics: Metrics,
        clock: Clock = time.monotonic,
        *,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.failure: BackendUnavailable | None = None
        """Why the pool takes no more work; the server should then exit."""
        self._batcher = batcher
        self._sleep = sleep
        self._supervisors = [
            Supervisor(name, new_worker, metrics, self._changed, clock, sleep=sleep, jitter=jitter) for name in devices
        ]
        self._tasks: list[asyncio.Task[None]] = []
        self._first: asyncio.Future[Infos] | None = None
        self._patience: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether tiles are admitted now: a device is warmed up, and the pool neither drains nor has failed."""
        return self.failure is None and self._batcher.queue.is_open

    @property
    def conditions(self) -> dict[str, DeviceCondition]:
        """Condition of each device, by name."""
        return {supervisor.name: supervisor.condition for supervisor in self._supervisors}

    async def start(self) -> Infos:
        """Start all devices and return when the first is ready.

        Raises BackendUnavailable with the name of a device that cannot start; one that fails later sets `failure`.
        """
        self._first = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(supervisor.run()) for supervisor in self._supervisors]
        return await asyncio.shield(self._first)

    async def replace(self, model: str, new_backend: NewBackend) -> BackendInfo:
        """Replace the backends of a model, one device after the other, without interrupting service.

        Raises BackendUnavailable for the first device that cannot switch; it and the others keep their backends.
        """
        infos = [await supervisor.replace(model, new_backend) for supervisor in self._supervisors]
        return infos[0]

    def drain(self) -> None:
        """Refuse new tiles from now on; admitted tiles still run. Returns at once."""
        self._batcher.queue.close(_draining)
        self._end_supervision()

    async def stop(self, timeout_s: float) -> None:
        """Drain, wait until the admitted tiles have run, and release the backends.

        After `timeout_s` seconds, queued tiles end with Draining and running ones with BackendLost.
        """
        self.drain()
        if self._patience is not None:
            self._patience.cancel()
        if not self._tasks:
            return
        _, pending = await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in pending:
            task.cancel()
        waiting = self._batcher.queue.clear()
        settle(waiting, [_draining() for _ in waiting])
        running = self._batcher.queue.running
        settle(running, [lost() for _ in running])
        if waiting or running:
            log.warning(
                "stopped before all accepted images were restored",
                extra={"timeout_s": timeout_s, "waiting": len(waiting), "running": len(running)},
            )

    def _changed(self) -> None:
        """Update the pool after a device changed its condition."""
        self._find_failure()
        if self._first is not None and not self._first.done():
            if self.failure is not None:
                self._first.set_exception(self.failure)
            elif (infos := next((one.infos for one in self._supervisors if one.infos is not None), None)) is not None:
                self._first.set_result(infos)
        conditions = self.conditions.values()
        if "ready" in conditions:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
        elif self._patience is None and "lost" in conditions:
            self._patience = asyncio.create_task(self._lose_patience())

    def _find_failure(self) -> None:
        if self.failure is not None:
            return
        for supervisor in self._supervisors:
            if supervisor.failure is not None and supervisor.infos is None:
                self.failure = supervisor.failure
        if all(one.lost_for_good or one.failed_starts >= MOST_FAILED_STARTS for one in self._supervisors):
            self.failure = self._supervisors[0].failure
        if self.failure is not None:
            if self._first is not None and self._first.done():  # or `start` raises it
                log.critical("no device can be restarted", extra={"reason": self.failure.detail})
            self._batcher.queue.close(_no_backend)
            self._end_supervision()
            if all(one.lost_for_good for one in self._supervisors):  # no device is left for the queued tiles
                waiting = self._batcher.queue.clear()
                settle(waiting, [_no_backend() for _ in waiting])

    def _end_supervision(self) -> None:
        for supervisor in self._supervisors:
            supervisor.drain(needed=lambda: self._batcher.queue.tiles > 0)

    async def _lose_patience(self) -> None:
        """End the tiles that waited too long for a device; the queue refuses later ones by itself."""
        await self._sleep(PATIENCE_S)
        waiting = self._batcher.queue.clear()
        settle(waiting, [_no_device() for _ in waiting])
        if waiting:
            log.warning("images waited in vain for a device", extra={"waiting": len(waiting)})
