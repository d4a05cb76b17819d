"""Long work: what clients do with jobs."""

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
"""Proxies close connections that are silent for a minute or less."""
LOOK_S = 1.0
"""Between looks of a watcher whether the server stops."""


class LongWork:
    """Submit, look, watch, fetch and give up jobs; `open`, `start` and `stop` frame its life."""

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
        """Seconds that a result is kept."""
        return self._store.keep_s

    @property
    def max_bytes(self) -> int:
        """What all jobs may take up."""
        return self._store.budget.max_bytes

    @property
    def trouble(self) -> DiskFull | JobsUnavailable | None:
        """Why jobs cannot be stored at the moment; JobsUnavailable: nor be read, perhaps."""
        return self._store.trouble

    def open(self) -> None:
        """Take the folder; blocks. Raises JobsUnavailable. Further calls do nothing."""
        if not self._is_open:
            self._store.open()
            self._is_open = True

    async def start(self) -> None:
        """Open, and go on with the jobs that are stored."""
        await self._thread.run(self.open)
        self._runner.start()

    async def stop(self) -> None:
        """Put back what runs and close the store."""
        await self._runner.stop()
        await self._thread.run(self._store.close)
        self._thread.stop()

    async def submit(self, upload: bytes, order: Order) -> Status:
        """Store a job; raises JobsFull, DiskFull, and Draining at the very end."""
        try:
            if self._runner.closing:
                raise Draining("The server is stopping and takes nothing new.")
            record = await self._thread.run(self._store.submit, upload, order)
        except Refused as refusal:
            self._metrics.count_refusal(refusal.slug)
            raise
        self._runner.wake()
        return await self._queued(record)

    async def check_owner(self, id_: str, owner: str) -> None:
        """Raises UnknownJob where the job belongs to somebody else, and as `look`."""
        await self._thread.run(self._store.find, id_, owner)

    async def look(self, id_: str) -> Status:
        """The job as it is now; raises UnknownJob, JobExpired."""
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
        """A done job, the size of its result and the file, to be closed; raises as `look`, and JobUnfinished."""
        return await self._thread.run(self._store.open_result, id_)

    async def give_up(self, id_: str) -> None:
        """Cancel an unfinished job, remove one that has ended; raises as `look`."""
        await self._thread.run(self._store.give_up, id_)
        self._runner.withdraw(id_)

    async def watch(self, id_: str, seen: str | None) -> AsyncIterator[Status | None]:
        """The job at each change, the present one first unless its mark was `seen`; ends with the final state.

        None where nothing happened for `HEARTBEAT_S`. It also ends where the job is removed, and where the server stops
        without having finished it.
        """
        with self._runner.bell.watching(id_) as news:
            silent_s = 0.0
            while True:
                try:
                    now = await self.look(id_)
                except (UnknownJob, JobExpired):
                    return
                except JobsUnavailable:  # until the disk is repaired, or the client has waited enough
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
                    await asyncio.wait_for(news.wait(), LOOK_S)
                    news.clear()
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
        pace, runs = self._runner.pace, self._runner.runs.values()
        ahead_s = pace.predict(await self._thread.run(self._store.pixels_ahead, record))
        own_s = pace.predict(record.order.pixels)
        if ahead_s is None or own_s is None:
            return Status(record)
        running_s = sum(self._runner.left_s(run) or 0.0 for run in runs)
        return Status(record, 0, 0, (running_s + ahead_s) / CONCURRENT + own_s)
