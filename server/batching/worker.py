"""The Worker: the one thread that owns a backend."""

import asyncio
import logging
import threading
import time
from contextlib import suppress
from typing import TypeVar, cast

import numpy as np

from server.backends.base import Backend, BackendInfo, PipelinedBackend, RepeatingBackend
from server.batching.batcher import Batcher, Clock
from server.batching.job import Batch, fail_soon, settle, settle_soon
from server.batching.pipeline import Pipeline
from server.batching.recovery import ParityCheck, Recovery
from server.errors import BackendLost, BackendUnavailable, Draining
from server.metrics import Metrics

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)

# Small enough to be quick on a CPU; the first run loads code and caches, the second one is measured.
WARM_UP_MULTIPLES = 8
WARM_UP_RUNS = 2


def _draining() -> Draining:
    return Draining("the server is stopping and takes no new images")


def _lost() -> BackendLost:
    return BackendLost("the backend was lost before the image was restored")


class Worker:
    """Pulls batches from the batcher, runs them, and ends every job of each.

    A backend that can is given the next batch while one runs, if that batch is full by then and would not gain by
    waiting.
    `start` and `stop` belong to the event loop that the jobs' callers run on. Whatever ends the thread, an error
    in `run` that is no Exception included, the queue closes and every job that waits or runs ends with BackendLost.
    """

    def __init__(
        self,
        backend: Backend,
        batcher: Batcher,
        metrics: Metrics,
        clock: Clock = time.monotonic,
        *,
        check: ParityCheck | None = None,
    ) -> None:
        self._backend = backend
        self._batcher = batcher
        self._metrics = metrics
        self._clock = clock
        self._check = check or ParityCheck()
        self._pipeline = Pipeline(backend, clock)
        self._recovery = Recovery(self._pipeline, metrics, self._check, clock)
        self._thread: threading.Thread | None = None
        self._finished: asyncio.Future[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether a job would be admitted now: warmed up, not draining, backend not lost."""
        return self._batcher.queue.is_open

    async def start(self) -> BackendInfo:
        """Load the backend, warm it up and open the queue; raises BackendUnavailable."""
        loop = asyncio.get_running_loop()
        started: asyncio.Future[BackendInfo] = loop.create_future()
        self._finished = loop.create_future()
        # A daemon: a run that hangs in native code must not keep the process alive after stop() gave up on it.
        self._thread = threading.Thread(
            target=self._main, args=(started, self._finished), name="promptir-worker", daemon=True
        )
        self._thread.start()
        return await started

    def drain(self) -> None:
        """Refuse new jobs from now on; what was admitted still runs. Returns at once."""
        self._batcher.queue.close(_draining)

    async def stop(self, timeout_s: float) -> None:
        """Drain, wait until the admitted jobs have run, release the backend.

        After `timeout_s` seconds the jobs that wait end with Draining and the running ones with BackendLost.
        """
        self.drain()
        if self._thread is None or self._finished is None:
            return
        done, _ = await asyncio.wait([self._finished], timeout=timeout_s)
        if done:
            self._thread.join()
            return
        waiting = self._batcher.queue.clear()
        settle(waiting, [_draining() for _ in waiting])
        running = self._batcher.queue.running
        settle(running, [_lost() for _ in running])
        log.warning(
            "stopped before all accepted images were restored",
            extra={"timeout_s": timeout_s, "waiting": len(waiting), "running": len(running)},
        )

    def _main(self, started: asyncio.Future[BackendInfo], finished: asyncio.Future[None]) -> None:
        try:
            if self._start_backend(started):
                self._serve()
        except BaseException:  # also SystemExit: nobody above this frame could tell the callers
            log.critical("the worker thread failed; no image can be restored any more", exc_info=True)
        finally:
            self._batcher.queue.close(_lost)
            fail_soon(self._batcher.queue.running, _lost)
            fail_soon(self._batcher.queue.clear(), _lost)
            self._batcher.queue.release()
            self._stop_backend()
            _post(finished, None)

    def _start_backend(self, started: asyncio.Future[BackendInfo]) -> bool:
        try:
            info = self._backend.start()
            self._warm_up(info)
        except BaseException as error:
            if isinstance(error, BackendUnavailable):
                failure = error
            else:
                log.exception("the backend failed to start")
                failure = BackendUnavailable(f"the backend failed to start: {type(error).__name__}: {error}")
            self._batcher.queue.close(_lost)  # before start() returns, so that what it leaves behind is settled
            _post(started, failure)
            return False
        self._batcher.max_batch = min(self._batcher.max_batch, info.max_batch)
        if info.can_repeat_in_fp32:
            self._recovery.repeating = cast(RepeatingBackend, self._backend)
        elif self._check.every:
            log.warning("answers are not compared with FP32: this backend has no other precision than its own")
        if info.can_begin_ahead:
            self._pipeline.pipelined = cast(PipelinedBackend, self._backend)
        self._metrics.set_backend(info.backend, info.device, info.artifact, info.precision)
        self._batcher.queue.open()
        _post(started, info)
        return True

    def _warm_up(self, info: BackendInfo) -> None:
        side = WARM_UP_MULTIPLES * info.size_multiple
        batch = np.full((1, 3, side, side), 0.5, np.float32)
        for _ in range(WARM_UP_RUNS):
            began = self._clock()
            output = self._backend.run(batch)
            seconds = self._clock() - began
            if output.shape != batch.shape or not np.isfinite(output).all():
                raise BackendUnavailable("the backend's warm-up run gave a wrong shape or values that are not finite")
        self._batcher.cost_model.observe(side * side, seconds)

    def _serve(self) -> None:
        ahead: Batch | None = None
        while (batch := ahead or self._batcher.next_batch()) is not None:
            ahead = self._run(batch)
            del batch  # while it waits, the worker must not keep the last images alive

    def _run(self, batch: Batch) -> Batch | None:
        """Run a batch to its end; return the one that was taken meanwhile and is next."""
        ran = self._recovery.run(batch, next_full=lambda: self._batcher.poll(only_full=True))
        if (ceiling := self._recovery.ceiling_pixels) is not None:
            self._batcher.max_run_pixels = min(self._batcher.max_run_pixels, ceiling)
        self._batcher.finished(batch, ran.seconds)
        settle_soon(batch.jobs, ran.outcomes)
        self._batcher.queue.release(batch.jobs)
        if ran.ahead is not None:
            self._batcher.expire(ran.ahead)
        return ran.ahead

    def _stop_backend(self) -> None:
        try:
            self._backend.stop()
        except Exception:
            log.exception("the backend failed to stop")


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
