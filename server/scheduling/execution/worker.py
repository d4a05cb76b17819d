"""The Worker: the one thread that owns a backend, from its start to its end or its loss."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

from server.backends.base import Backend, BackendInfo, PipelinedBackend, RepeatingBackend
from server.errors import BackendLost, BackendUnavailable
from server.metrics import Metrics
from server.scheduling.batcher import Batcher, Clock
from server.scheduling.execution.pipeline import Pipeline
from server.scheduling.execution.recovery import ParityCheck, Recovery
from server.scheduling.execution.warm_up import warm_up
from server.scheduling.policy.device import Device
from server.scheduling.queue.tile import Batch, fail_soon, settle_soon

Answer = TypeVar("Answer")
NewBackend = Callable[[str], Backend]
"""A fresh backend for a device by its name, not started."""

log = logging.getLogger(__name__)

# Times what was predicted: a run that takes longer still is not slow but stuck.
HUNG_FACTOR = 10.0
# A batch that is not full is begun so long before the device is free: a turn of this thread, and the copies of the
# batch (12 bytes a pixel, at some gigabytes a second, twice), which is taken to be as large as the one that runs.
LEAD_S = 0.001
LEAD_S_A_PIXEL = 5e-9


def lost() -> BackendLost:
    """The end of a tile whose run has no result because its device is gone."""
    return BackendLost("the device was lost while it ran the image; sent again, the image may well be restored")


class Worker:
    """Pulls batches from the batcher, runs them, and ends every tile of each; one life of one backend.

    A backend that can is given the next batch while one runs: at once if that batch is full and would not gain by
    waiting, else just before the run ends, so that the device has no pause.

    The life ends once the queue is closed and empty, or with the loss of the backend: a BackendLost out of a run, or
    whatever else ends the thread. Then the device has left the batcher, its tiles have ended with BackendLost, and the
    backend is stopped. `start`, `abandon` and `ended` belong to the loop of the tiles' callers.
    """

    def __init__(
        self,
        device: Device,
        backend: Backend,
        batcher: Batcher,
        metrics: Metrics,
        clock: Clock = time.monotonic,
        *,
        check: ParityCheck | None = None,
        run_timeout_s: float = float("inf"),
    ) -> None:
        self.device = device
        self.ended: asyncio.Future[bool] | None = None
        """From `start` on: its result says whether the backend was lost."""
        self._backend = backend
        self._batcher = batcher
        self._clock = clock
        self._check = check or ParityCheck()
        self._run_timeout_s = run_timeout_s
        self._pipeline = Pipeline(backend, clock)
        self._recovery = Recovery(self._pipeline, metrics, self._check, clock, device=device.name)
        device.untaken = self._recovery.untaken
        self._thread: threading.Thread | None = None
        self._due: float | None = None
        self._abandoned = False

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def overdue(self) -> bool:
        """Whether the present run takes so long that it has hung: over `run_timeout_s`, and tenfold the prediction."""
        due = self._due
        return due is not None and self._clock() > due

    async def start(self) -> BackendInfo:
        """Load the backend, warm it up and join the batcher; raises BackendUnavailable."""
        loop = asyncio.get_running_loop()
        started: asyncio.Future[BackendInfo] = loop.create_future()
        self.ended = loop.create_future()
        # A daemon: a run that hangs in native code must not keep the process alive after everyone gave up on it.
        self._thread = threading.Thread(
            target=self._main, args=(started, self.ended), name=f"promptir-{self.device.name}", daemon=True
        )
        self._thread.start()
        return await started

    def abandon(self) -> None:
        """Give the thread up: its tiles end now, and it ends by itself if its run ever does."""
        self._abandoned = True
        self._let_go()

    def _main(self, started: asyncio.Future[BackendInfo], ended: asyncio.Future[bool]) -> None:
        is_lost = True
        try:
            if self._start_backend(started):
                self._serve()
            is_lost = False
        except BaseException:  # also SystemExit: nobody above this frame could tell the callers
            log.critical("a device was lost", extra={"device": self.device.name}, exc_info=True)
        finally:
            self._let_go()
            self._due = self._clock() + self._run_timeout_s  # a lost device may hang here as well
            self._stop_backend()
            self._due = None
            _post(ended, is_lost)

    def _let_go(self) -> None:
        fail_soon(self._batcher.leave(self.device), lost)

    def _start_backend(self, started: asyncio.Future[BackendInfo]) -> bool:
        try:
            info = self._backend.start()
            warm_up(self._backend, info, self.device.cost_model, self._clock)
        except BaseException as error:
            if isinstance(error, BackendUnavailable):
                failure = error
            else:
                log.exception("the backend failed to start", extra={"device": self.device.name})
                failure = BackendUnavailable(f"the backend failed to start: {type(error).__name__}: {error}")
            _post(started, failure)
            return False
        self.device.max_batch = min(self.device.max_batch, info.max_batch)
        self.device.masks = info.can_mask
        self._pipeline.prompt_shape = info.prompt_shape
        if info.can_repeat_in_fp32:
            self._recovery.repeating = cast(RepeatingBackend, self._backend)
        elif self._check.every:
            log.warning("answers are not compared with FP32: this backend has no other precision than its own")
        if info.can_begin_ahead:
            self._pipeline.pipelined = cast(PipelinedBackend, self._backend)
        self._batcher.join(self.device)
        _post(started, info)
        return True

    def _serve(self) -> None:
        ahead: Batch | None = None
        while (batch := ahead or self._batcher.next_batch(self.device)) is not None and not self._abandoned:
            ahead = self._run(batch)
            del batch  # while it waits, the worker must not keep the last images alive

    def _run(self, batch: Batch) -> Batch | None:
        """Run a batch to its end; return the one that was begun meanwhile and is next."""
        predicted_s = self.device.cost_model.predict(batch.padded_shape, len(batch.tiles))
        self._due = self._clock() + max(self._run_timeout_s, HUNG_FACTOR * predicted_s)
        ran = self._recovery.run(batch, self._next_ahead)
        self._due = None
        if (ceiling := self._recovery.ceiling_pixels) is not None:
            self.device.max_run_pixels = min(self.device.max_run_pixels, ceiling)
        self._batcher.finished(self.device, batch, ran.seconds)
        try:  # first the device, then the answers
            return self._begin_early() if ran.ahead is None else ran.ahead
        finally:
            settle_soon(batch.tiles, ran.outcomes)
            self._batcher.queue.release(batch.tiles)
            if ran.ahead is not None:
                self._batcher.expire(ran.ahead)

    def _next_ahead(self, wait: Callable[[float], None]) -> Batch | None:
        """Take what is to be begun behind the run that goes on; `wait` returns before its end as well."""
        batch = self._batcher.poll(self.device, only_full=True)
        if batch is not None or self.device.max_batch == 1:  # single images can be taken back as long as they wait
            return batch
        pixels = sum(batch.pixel_count for batch in self.device.running)
        wait(self.device.remaining_s(self._clock()) - LEAD_S - pixels * LEAD_S_A_PIXEL)
        return None if self._abandoned else self._batcher.poll(self.device)

    def _begin_early(self) -> Batch | None:
        if self._pipeline.pipelined is None or (batch := self._batcher.poll(self.device)) is None:
            return None
        self._pipeline.begin_early(batch)
        return batch

    def _stop_backend(self) -> None:
        try:
            self._backend.stop()
        except Exception:
            log.exception("the backend failed to stop", extra={"device": self.device.name})


def _post(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    """End a future of the event loop from the worker's thread."""

    def end() -> None:
        if future.done():
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    with suppress(RuntimeError):  # the loop is closed: nobody waits
        future.get_loop().call_soon_threadsafe(end)
