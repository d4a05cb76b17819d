"""Use cases of stored jobs: submit, inspect, watch, fetch and cancel."""

import asyncio
from collections.abc import AsyncIterator
from typing import BinaryIO

from server.errors import DiskFull, Draining, JobExpired, JobsUnavailable, Refused, UnknownJob
from server.jobs.record import Order, Record, State
from server.jobs.run import Run, Status
from server.jobs.runner import CONCURRENT, Runner
from server.jobs.store import Store
from server.jobs.store_thread import StoreThread
from server.metrics import Metrics

HEARTBEAT_S = 15.0
"""Interval of keep-alive messages: proxies close connections that are silent for about a minute."""
LOOK_S = 1.0
"""Interval at which a watcher checks whether the server is stopping."""


class LongWork:
    """Serves the job requests of the API; `open`, `start` and `stop` control its lifecycle."""

    def __init__(self, store: Store, thread: StoreThread, runner: Runner, metrics: Metrics) -> None:
        self._store = store
        self._thread = thread
        self._runner = runner
        self._is_open = False
        self._metrics = metrics
        metrics.watch_jobs([state.value for state in State], lambda state: store.counts[State(state)])
        metrics.watch_job_bytes(lambda: store.used_bytes)

    @property
    def keep_s(self) -> float:
        """Retention time of results, in seconds."""
        return self._store.keep_s

    @property
    def max_bytes(self) -> int:
        """Byte budget of all jobs."""
        return self._store.budget.max_bytes

    @property
    def trouble(self) -> DiskFull | JobsUnavailable | None:
        """Why jobs cannot be stored at the moment, or None; with JobsUnavailable they may not be readable either."""
        return self._store.trouble

    def open(self) -> None:
        """Open the store; blocks. Raises JobsUnavailable. Further calls do nothing."""
        if not self._is_open:
            self._store.open()
            self._is_open = True

    async def start(self) -> None:
        """Open the store and continue with the jobs in it."""
        await self._thread.run(self.open)
        self._runner.start()

    async def stop(self) -> None:
        """Return running jobs to the queue and close the store."""
        await self._runner.stop()
        await self._thread.run(self._store.close)
        self._thread.stop()

    async def submit(self, upload: bytes, order: Order) -> Status:
        """Store a job; raises JobsFull, DiskFull, and Draining once the server is closing."""
        try:
            if self._runner.closing:
                raise Draining("The server is shutting down and accepts no new jobs.")
            record = await self._thread.run(self._store.submit, upload, order)
        except Refused as refusal:
            self._metrics.count_refusal(refusal.slug)
            raise
        self._runner.wake()
        return await self._queued(record)

    async def check_owner(self, id_: str, owner: str) -> None:
        """Raise UnknownJob if the job belongs to another owner; raises as `look`."""
        await self._thread.run(self._store.find, id_, owner)

    async def look(self, id_: str) -> Status:
        """Return the current status of a job; raises UnknownJob, JobExpired."""
        if (run := self._runner.runs.get(id_)) is not None and not run.withdrawn:
            return self._running(run)
        record = await self._thread.run(self._store.find, id_)
        if record.state is State.QUEUED:
            return await self._queued(record)
        if record.state is State.RUNNING and (run := self._runner.runs.get(id_)) is not None:
            return self._running(run)
        tiles = 0 if record.answer is None else record.answer.tiles
        return Status(record, tiles, tiles, None)

    async def open_result(self, id_: str) -> tuple[Record, int, BinaryIO]:
        """Return a finished job, the size of its result and the open file, which the caller closes.

        Raises as `look`, and JobUnfinished.
        """
        return await self._thread.run(self._store.open_result, id_)

    async def give_up(self, id_: str) -> None:
        """Cancel an unfinished job, or delete a finished one; raises as `look`."""
        await self._thread.run(self._store.give_up, id_)
        self._runner.withdraw(id_)

    async def watch(self, id_: str, seen: str | None) -> AsyncIterator[Status | None]:
        """Yield the status of a job now, unless its mark is `seen`, and at each change up to its final state.

        Yields None after `HEARTBEAT_S` without a change. Ends early if the job is deleted or the server stops first.
        """
        with self._runner.notifier.subscribe(id_) as changed:
            silent_s = 0.0
            while True:
                try:
                    now = await self.look(id_)
                except (UnknownJob, JobExpired):
                    return
                except JobsUnavailable:  # until the disk is repaired or the client gives up
                    if self._runner.draining:
                        return
                    await asyncio.sleep(LOOK_S)
                    continue
                if now.mark != seen:
                    seen, silent_s = now.mark, 0.0
                    yield now
                if now.record.state.is_final or self._stops(id_):
                    return
                try:
                    await asyncio.wait_for(changed.wait(), LOOK_S)
                    changed.clear()
                except TimeoutError:
                    silent_s += LOOK_S
                    if silent_s >= HEARTBEAT_S:
                        silent_s = 0.0
                        yield None

    def _stops(self, id_: str) -> bool:
        return self._runner.draining and id_ not in self._runner.runs

    def _running(self, run: Run) -> Status:
        return Status(run.record, run.done, run.total, self._runner.left_s(run))

    async def _queued(self, record: Record) -> Status:
        throughput, runs = self._runner.throughput, self._runner.runs.values()
        ahead_s = throughput.predict(await self._thread.run(self._store.pixels_ahead, record))
        own_s = throughput.predict(record.order.pixels)
        if ahead_s is None or own_s is None:
            return Status(record)
        running_s = sum(self._runner.left_s(run) or 0.0 for run in runs)
        return Status(record, 0, 0, (running_s + ahead_s) / CONCURRENT + own_s)
