"""Use cases of stored jobs: submit, inspect, watch, fetch and cancel."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from server.errors import DiskFull, Draining, InvalidRequest, JobExpired, JobsUnavailable, Refused, UnknownJob
from server.jobs.batch_store import BatchStore
from server.jobs.record import Order, Record, State, Submission
from server.jobs.run import BatchStatus, Run, Status
from server.jobs.runner import CONCURRENT, Runner
from server.jobs.store_thread import StoreThread
from server.jobs.webhooks import Webhooks
from server.metrics import Metrics

HEARTBEAT_S = 15.0
"""Interval of keep-alive messages: proxies close connections that are silent for about a minute."""
LOOK_S = 1.0
"""Interval at which a watcher checks whether the server is stopping."""


class LongWork:
    """Serves the job requests of the API; `open`, `start` and `stop` control its lifecycle."""

    def __init__(
        self,
        store: BatchStore,
        thread: StoreThread,
        runner: Runner,
        metrics: Metrics,
        webhooks: Webhooks | None = None,
    ) -> None:
        self._store = store
        self._thread = thread
        self._runner = runner
        self._webhooks = webhooks
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
        if self._webhooks is not None:
            self._webhooks.start(self.look)

    async def stop(self) -> None:
        """Return running jobs to the queue and close the store."""
        await self._runner.stop()
        if self._webhooks is not None:
            await self._webhooks.stop()
        await self._thread.run(self._store.close)
        self._thread.stop()

    def check_webhook(self, url: str) -> None:
        """Raise InvalidRequest for a URL that webhooks are not sent to."""
        if self._webhooks is None:
            raise InvalidRequest("This server sends no webhooks: it was started without PROMPTIR_WEBHOOK_HOSTS.")
        self._webhooks.check(url)

    async def submit(self, upload: bytes, order: Order, webhook: str | None = None) -> Status:
        """Store a job; raises JobsFull, DiskFull, and Draining once the server is closing."""
        with self._accepting():
            record = await self._thread.run(self._store.submit, upload, order, webhook)
        self._runner.wake()
        return await self._queued(record)

    async def submit_batch(
        self, photos: Sequence[Submission], options: str, filename: str | None, webhook: str | None = None
    ) -> BatchStatus:
        """Store the jobs of a batch; raises as `submit`."""
        with self._accepting():
            batch = await self._thread.run(self._store.submit_batch, photos, options, filename, webhook)
        self._runner.wake()
        return await self._batch(batch.id) or BatchStatus(batch, ())

    async def check_owner(self, id_: str, owner: str) -> None:
        """Raise UnknownJob if the job or batch belongs to another owner; raises as `look`."""
        await self._thread.run(self._store.check_owner, id_, owner)

    async def look(self, id_: str) -> Status | BatchStatus:
        """Return the current status of a job or batch; raises UnknownJob, JobExpired."""
        if (run := self._runner.runs.get(id_)) is not None and not (run.withdrawn or run.ended):
            return self._running(run)
        if (batch := await self._batch(id_)) is not None:
            return batch
        record = await self._thread.run(self._store.find, id_)
        return await self._queued(record) if record.state is State.QUEUED else self._begun(record)

    async def open_result(self, id_: str) -> tuple[Record, int, BinaryIO]:
        """Return a finished job, the size of its result and the open file, which the caller closes.

        Raises as `look`, and JobUnfinished.
        """
        return await self._thread.run(self._store.open_result, id_)

    async def give_up(self, id_: str) -> None:
        """Cancel an unfinished job or batch, or delete a finished one; raises as `look`."""
        for job in await self._thread.run(self._store.give_up_any, id_):
            self._runner.withdraw(job)
        self._runner.notifier.notify(id_)

    async def watch(self, id_: str, seen: str | None) -> AsyncIterator[Status | BatchStatus | None]:
        """Yield the status of a job or batch now, unless its mark is `seen`, and at each change up to its final state.

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
                if now.state.is_final or self._stops(id_):
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

    @contextmanager
    def _accepting(self) -> Iterator[None]:
        """Raise Draining once the server is closing, and count refusals in the block."""
        try:
            if self._runner.closing:
                raise Draining("The server is shutting down and accepts no new jobs.")
            yield
        except Refused as refusal:
            self._metrics.count_refusal(refusal.slug)
            raise

    async def _batch(self, id_: str) -> BatchStatus | None:
        if (found := await self._thread.run(self._store.find_batch, id_)) is None:
            return None
        batch, records = found
        photos = [Status(record) if record.state is State.QUEUED else self._begun(record) for record in records]
        waiting = [photo.record for photo in photos if photo.state is State.QUEUED]
        running_s = sum(photo.left_s or 0.0 for photo in photos)
        left_s = running_s if len(photos) > len(waiting) else None
        if waiting:
            ahead = await self._thread.run(self._store.pixels_ahead, waiting[0])
            left_s = self._runner.throughput.predict(ahead + sum(record.order.pixels for record in waiting))
            left_s = None if left_s is None else (running_s + left_s) / CONCURRENT
        return BatchStatus(batch, photos, left_s)

    def _begun(self, record: Record) -> Status:
        if record.state is State.RUNNING and (run := self._runner.runs.get(record.id)) is not None:
            return self._running(run)
        tiles = 0 if record.answer is None else record.answer.tiles
        return Status(record, tiles, tiles, None)

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
