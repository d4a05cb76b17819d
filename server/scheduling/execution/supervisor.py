"""The Supervisor: runs a worker on one device, and replaces the worker when it is lost."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from server.backends.base import BackendInfo
from server.errors import BackendUnavailable
from server.metrics import DeviceCondition, Metrics
from server.scheduling.batcher import Clock
from server.scheduling.execution.worker import Infos, NewBackend, Worker

log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[object]]


class NewWorker(Protocol):
    """Creates a worker without starting it; `replaced` overrides the configured backends of some models."""

    def __call__(self, name: str, replaced: Mapping[str, NewBackend], /) -> Worker: ...


WATCH_S = 0.25
"""Interval between checks for a run that hangs."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# The pauses start over if the lost worker had served for this long.
STEADY_S = 60.0
# Each hanging run keeps a thread and the memory of its backend until it ends.
MOST_HUNG = 3


def pause_s(losses: int, jitter: float) -> float:
    """Return the seconds to wait before a restart: doubled with each loss in a row, shortened at random by up to half.

    `jitter` is random in [0, 1), so that devices that were lost together do not all load at the same moment.
    """
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(losses - 1, 16)) * (1 - jitter / 2)


class Supervisor:
    """Runs workers on one device, one after another; `run` is a task of the event loop.

    A worker is lost when its backend fails for good or a run hangs. A hanging worker is abandoned, and its thread lives
    until the run ends. After a pause the next worker starts, with a new backend, unless the device is lost to the whole
    process. `on_change` is called for each new condition.
    """

    def __init__(
        self,
        name: str,
        new_worker: NewWorker,
        metrics: Metrics,
        on_change: Callable[[], None],
        clock: Clock = time.monotonic,
        *,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.condition: DeviceCondition = "starting"
        self.infos: Infos | None = None
        """What the backends of the last start reported."""
        self.failure: BackendUnavailable | None = None
        """Why the last start failed, if it did."""
        self.failed_starts = 0
        """Consecutive failed starts."""
        self.lost_for_good = False
        """Whether only a new process can use the device; no worker is started again then."""
        self._new_worker = new_worker
        self._replaced: Mapping[str, NewBackend] = {}
        self._successor: Worker | None = None
        self._starting = asyncio.Lock()
        self._metrics = metrics
        self._on_change = on_change
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._losses = 0
        self._ready_at = 0.0
        self._hung: list[Worker] = []
        self._needed: Callable[[], bool] = lambda: True
        self._draining = asyncio.Event()

    def drain(self, needed: Callable[[], bool]) -> None:
        """Start no further worker unless `needed()` returns True, which it does while tiles wait. Returns at once."""
        self._needed = needed
        self._draining.set()

    async def run(self) -> None:
        """Serve until the queue is closed and empty; ends at once, with `failure`, if the first start fails."""
        self._enter("starting")
        async with self._starting:
            worker = await self._start()
        while worker is not None:
            is_lost = await self._is_lost(worker)
            if is_lost and worker.lost_for_good and self._successor is None:
                self._give_up()
                return
            if is_lost and self._successor is None:
                self._losses = self._losses + 1 if self._clock() - self._ready_at < STEADY_S else 1
                self._enter("lost")
            async with self._starting:
                worker, self._successor = self._successor, None
                if worker is None and is_lost:
                    worker = await self._start_again()
        if not self.lost_for_good:
            self._enter("stopped")

    async def replace(self, model: str, new_backend: NewBackend) -> BackendInfo:
        """Replace a model's backend: start a worker with the new one, then let the present worker finish its runs.

        The new worker loads the other models again, because a backend belongs to the thread that started it. Raises
        BackendUnavailable, and changes nothing, if the new backend cannot start or the device is not ready.
        """
        async with self._starting:
            if self.condition != "ready":
                raise BackendUnavailable(f"{self.name} is {self.condition}")
            replaced = {**self._replaced, model: new_backend}
            worker = self._new_worker(self.name, replaced)
            try:
                infos = await worker.start()
            except BackendUnavailable:
                await self._is_lost(worker)  # it has then released its memory
                raise
            self._replaced, self._successor = replaced, worker
            self._serves(infos)
            return infos[model]

    def _enter(self, condition: DeviceCondition) -> None:
        self.condition = condition
        self._metrics.set_device_condition(self.name, condition)
        self._on_change()

    async def _start(self) -> Worker | None:
        """Start a worker; returns None and sets `failure` if its backend cannot start."""
        try:
            worker = self._new_worker(self.name, self._replaced)
        except Exception as error:  # unexpected; if it ended the task, nobody would notice
            log.exception("a backend could not be made", extra={"device": self.name})
            self._failed(BackendUnavailable(f"the backend cannot be made: {type(error).__name__}: {error}"))
            return None
        try:
            infos = await worker.start()
        except BackendUnavailable as error:
            self._failed(error)
            await self._is_lost(worker)  # it has then released its memory
            self.lost_for_good = worker.lost_for_good
            return None
        self._serves(infos)
        return worker

    def _give_up(self) -> None:
        """Leave the device lost: starts in this process would all fail."""
        self.lost_for_good = True
        self._failed(BackendUnavailable("its CUDA context is lost, and only a new process gets another"))
        log.critical("a device is lost until the process restarts", extra={"device": self.name})
        self._enter("lost")

    def _serves(self, infos: Infos) -> None:
        self.infos = infos
        for model, info in infos.items():
            self._metrics.set_backend(
                self.name,
                model,
                backend=info.backend,
                hardware=info.device,
                artifact=info.model.name,
                precision=info.model.precision,
                model_hash=info.model.hash,
            )
        self.failure, self.failed_starts = None, 0
        self._ready_at = self._clock()
        self._enter("ready")

    async def _is_lost(self, worker: Worker) -> bool:
        """Wait for the end of a worker; returns whether it was lost."""
        if worker.ended is None:
            return False
        while not worker.ended.done():
            await asyncio.wait([worker.ended], timeout=WATCH_S)
            if worker.overdue and not worker.ended.done():
                log.critical("a run hangs; its thread is abandoned", extra={"device": self.name})
                worker.abandon()
                self._hung.append(worker)
                return True
        return worker.ended.result()

    async def _start_again(self) -> Worker | None:
        """Start workers until one is ready; None once a drain needs none, or the device is lost for good."""
        while self._needed() and not self.lost_for_good:
            seconds = pause_s(self._losses, self._jitter())
            log.warning("a device is started again", extra={"device": self.name, "in_s": round(seconds, 2)})
            await self._pause(seconds)
            if not self._needed():
                break
            self._hung = [worker for worker in self._hung if worker.alive]
            if len(self._hung) >= MOST_HUNG:
                self._failed(BackendUnavailable(f"{len(self._hung)} runs hang on the device"))
            elif (worker := await self._start()) is not None:
                self._metrics.count_rebuild(self.name)
                log.info("a device is served again", extra={"device": self.name})
                return worker
            log.error("a device did not start", extra={"device": self.name, "reason": str(self.failure)})
            self._losses += 1
            self._enter("lost")
        return None

    def _failed(self, error: BackendUnavailable) -> None:
        self.failure = BackendUnavailable(f"{self.name}: {error.detail}")
        self.failed_starts += 1

    async def _pause(self, seconds: float) -> None:
        """Sleep until the pause is over or a drain begins, because queued tiles must not wait longer than needed."""
        sleep = asyncio.ensure_future(self._sleep(seconds))
        if self._draining.is_set():
            await sleep
            return
        drain = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait([sleep, drain], return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            drain.cancel()
