"""The Worker: the thread that owns the backends of a device from start and warm-up until it ends or is lost."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar, cast

import numpy as np

from server.backends.base import Backend, BackendInfo, ModelInput, PipelinedBackend
from server.errors import BackendError, BackendLost, BackendUnavailable
from server.metrics import Metrics
from server.scheduling.batcher import Batcher, Clock
from server.scheduling.execution.pipeline import Pipeline
from server.scheduling.execution.recovery import ParityCheck, Recovery
from server.scheduling.policy.cost_model import CostModel
from server.scheduling.policy.device import Device
from server.scheduling.queue.tile import Batch, PaddedShape, fail_soon, settle_soon

Answer = TypeVar("Answer")
NewBackend = Callable[[str], Backend]
"""Makes a backend for the named device, not started."""
Infos = Mapping[str, BackendInfo]
"""What started backends report, by model."""

log = logging.getLogger(__name__)

# Multiple of the predicted duration beyond which a run counts as hung.
HUNG_FACTOR = 10.0
# How long before the device is free a batch that is not full begins: a turn of this thread, and the two copies of the
# batch (12 bytes a pixel, at some gigabytes a second), assumed to be as large as the current one.
LEAD_S = 0.001
LEAD_S_A_PIXEL = 5e-9
# Runs of each point of the warm-up, the last of which is timed.
RUNS_A_POINT = 2
# (side, images), sides in size multiples of the model. The first is quick on a CPU; a further point runs if it is
# predicted to fit the budget. The last are the default tiles of large photos.
POINTS = ((8, 1), (4, 1), (8, 2), (8, 4), (8, 8), (16, 1), (16, 4), (32, 1), (64, 1), (64, 4))
BUDGET_S = 1.0
# For the padded shapes that the settings name. On a GPU the first run of each new size takes some tenths of a second
# longer, in which algorithms are chosen for its convolutions.
SHAPES_BUDGET_S = 5.0
# A runtime whose first run takes longer has compiled for its size, and would do so again for others.
COMPILING_S = 5.0


def lost() -> BackendLost:
    """Make the error of a tile whose device was lost during its run."""
    return BackendLost("the device was lost while it ran the image; sent again, the image may well be restored")


class Worker:
    """Takes batches from the batcher, runs them and ends every tile; serves its backends from start to stop.

    It has one backend for each model, and runs one of them at a time. A pipelined backend gets the next batch of its
    model during a run: at once if that batch is full and would not gain by waiting, else just before the run ends, so
    that the device does not idle.

    The worker ends when the queue is closed and empty, or when a backend is lost: a run raised BackendLost, or any
    other exception ended the thread. By then the device has left the batcher, its tiles have ended with BackendLost,
    and all backends are stopped. `start`, `abandon` and `ended` are used on the event loop of the tiles' callers.
    """

    def __init__(
        self,
        device: Device,
        backends: Mapping[str, Backend],
        batcher: Batcher,
        metrics: Metrics,
        clock: Clock = time.monotonic,
        *,
        check: ParityCheck | None = None,
        run_timeout_s: float = float("inf"),
        padded_shapes: Sequence[PaddedShape] = (),
    ) -> None:
        self.device = device
        self.ended: asyncio.Future[bool] | None = None
        """Set by `start`; its result says whether a backend was lost."""
        self.lost_for_good = False
        """Whether no other worker of this process could serve the device."""
        self._backends = backends
        self._batcher = batcher
        self._clock = clock
        self._check = check or ParityCheck()
        self._run_timeout_s = run_timeout_s
        self._padded_shapes = padded_shapes
        self._pipeline = Pipeline(backends, clock)
        self._recoveries: dict[str, Recovery] = {}
        for model, loaded in device.models.items():
            self._recoveries[model] = Recovery(self._pipeline, metrics, self._check, clock, device=device.name)
            loaded.unsupported_shapes = self._recoveries[model].unsupported_shapes
        self._thread: threading.Thread | None = None
        self._due: float | None = None
        self._abandoned = False

    @property
    def alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def overdue(self) -> bool:
        """Tell whether the current run has hung: it exceeds `run_timeout_s` and ten times its prediction."""
        due = self._due
        return due is not None and self._clock() > due

    async def start(self) -> Infos:
        """Load the backends, warm them up and add the device to the batcher; raises BackendUnavailable."""
        loop = asyncio.get_running_loop()
        started: asyncio.Future[Infos] = loop.create_future()
        self.ended = loop.create_future()
        # A daemon: a run that hangs in native code must not keep the process alive once it is abandoned.
        self._thread = threading.Thread(
            target=self._main, args=(started, self.ended), name=f"promptir-{self.device.name}", daemon=True
        )
        self._thread.start()
        return await started

    def abandon(self) -> None:
        """Abandon the thread: its tiles end now, and it ends by itself if its run ever does."""
        self._abandoned = True
        self._let_go()

    def _main(self, started: asyncio.Future[Infos], ended: asyncio.Future[bool]) -> None:
        is_lost = True
        try:
            if self._start_backends(started):
                self._serve()
            is_lost = False
        except BaseException as error:  # also SystemExit: no frame above this one could end the tiles
            self.lost_for_good = _is_for_good(error)
            log.critical("a device was lost", extra={"device": self.device.name}, exc_info=True)
        finally:
            self._let_go()
            self._due = self._clock() + self._run_timeout_s  # a lost device may hang here as well
            self._stop_backends()
            self._due = None
            _post(ended, is_lost)

    def _let_go(self) -> None:
        fail_soon(self._batcher.leave(self.device), lost)

    def _start_backends(self, started: asyncio.Future[Infos]) -> bool:
        try:
            infos = {model: self._start_backend(model) for model in self._backends}
        except BaseException as error:
            if isinstance(error, BackendUnavailable):
                failure = error
            else:
                self.lost_for_good = _is_for_good(error)
                log.exception("the backend failed to start", extra={"device": self.device.name})
                failure = BackendUnavailable(f"the backend failed to start: {type(error).__name__}: {error}")
            _post(started, failure)
            return False
        self._batcher.join(self.device)
        _post(started, infos)
        return True

    def _start_backend(self, model: str) -> BackendInfo:
        backend, loaded = self._backends[model], self.device.models[model]
        info = backend.start()
        own = [shape for shape in self._padded_shapes if shape.model == model]
        shapes = [(shape, min(info.max_batch, self.device.room(shape))) for shape in own]
        warm_up(backend, info, loaded.cost_model, self._clock, shapes, model)
        loaded.max_batch = min(loaded.max_batch, info.max_batch)
        loaded.mixes_sizes = info.model.mixed_sizes
        self._recoveries[model].can_repeat_in_fp32 = info.can_repeat_in_fp32
        if self._check.every and not info.can_repeat_in_fp32:
            log.warning("answers are not compared with FP32: this backend has no other precision than its own")
        if info.can_begin_ahead:
            self._pipeline.pipelined[model] = cast(PipelinedBackend, backend)
        return info

    def _serve(self) -> None:
        ahead: Batch | None = None
        while (batch := ahead or self._batcher.next_batch(self.device)) is not None and not self._abandoned:
            ahead = self._run(batch)
            del batch  # the worker must not keep the last images alive while it waits

    def _run(self, batch: Batch) -> Batch | None:
        """Run a batch to its end; return the batch that was begun meanwhile, if any."""
        recovery, loaded = self._recoveries[batch.model], self.device.models[batch.model]
        predicted_s = self.device.predict(batch.padded_shape, len(batch.tiles))
        self._due = self._clock() + max(self._run_timeout_s, HUNG_FACTOR * predicted_s)
        ran = recovery.run(batch, self._next_ahead)
        self._due = None
        if (ceiling := recovery.ceiling_pixels) is not None:
            loaded.max_run_pixels = min(loaded.max_run_pixels, ceiling)
        self._batcher.finished(self.device, batch, ran.seconds)
        try:  # the device gets its next batch before the answers are sent
            return self._begin_early() if ran.ahead is None else ran.ahead
        finally:
            settle_soon(batch.tiles, ran.outcomes)
            self._batcher.queue.release(batch.tiles)
            if ran.ahead is not None:
                self._batcher.expire(ran.ahead)

    def _next_ahead(self, wait: Callable[[float], None]) -> Batch | None:
        """Take the batch to begin behind the current run; `wait` waits for that run, with a bound in seconds."""
        batch = self._batcher.poll(self.device, only_full=True)
        if batch is not None or self.device.runs_single_images:  # they stay in the queue, where they can be cancelled
            return batch
        pixels = sum(batch.pixel_count for batch in self.device.running)
        wait(self.device.remaining_s(self._clock()) - LEAD_S - pixels * LEAD_S_A_PIXEL)
        return None if self._abandoned else self._batcher.poll(self.device)

    def _begin_early(self) -> Batch | None:
        if not self._pipeline.pipelined or (batch := self._batcher.poll(self.device)) is None:
            return None
        self._pipeline.begin_early(batch)
        return batch

    def _stop_backends(self) -> None:
        for backend in self._backends.values():
            try:
                backend.stop()
            except Exception:
                log.exception("the backend failed to stop", extra={"device": self.device.name})


def warm_up(
    backend: Backend,
    info: BackendInfo,
    cost_model: CostModel,
    clock: Callable[[], float],
    shapes: Iterable[tuple[PaddedShape, int]] = (),
    model: str = "",
) -> None:
    """Time a few shapes and counts for the `cost_model` of `model`; takes about `BUDGET_S` beyond the first point.

    Then each of `shapes`, with one image and with its number of images, as long as `SHAPES_BUDGET_S` lasts. Raises
    BackendUnavailable if the output of a point is unusable, or what the backend raises at the first point; a further
    point that cannot run is left out.
    """
    multiple = info.model.size_multiple
    points = ((PaddedShape(side * multiple, side * multiple, model), count) for side, count in POINTS)
    first = next(points)
    began = clock()
    seconds = _measure(backend, info, *first, cost_model, clock)
    if clock() - began > COMPILING_S:
        return
    named = ((shape, count) for shape, most in shapes for count in sorted({1, most}))
    for group, budget_s in ((points, BUDGET_S), (named, SHAPES_BUDGET_S)):
        spent_s = 0.0
        for shape, count in group:
            expected_s = RUNS_A_POINT * max(seconds, cost_model.predict(shape, count))
            if count > info.max_batch or spent_s + expected_s > budget_s:
                continue
            began = clock()
            try:
                _measure(backend, info, shape, count, cost_model, clock)
            except BackendLost:
                raise
            except BackendError:  # too large for the device's memory, or outside the profiles of a plan
                continue
            finally:
                spent_s += clock() - began


def _measure(
    backend: Backend,
    info: BackendInfo,
    shape: PaddedShape,
    count: int,
    cost_model: CostModel,
    clock: Callable[[], float],
) -> float:
    batch = ModelInput(np.full((count, info.model.channels, shape.height, shape.width), 0.5, np.float32))
    for _ in range(RUNS_A_POINT):
        began = clock()
        output = backend.run(batch).pixels
        seconds = clock() - began
        if output.shape != batch.shape or not np.isfinite(output).all():
            raise BackendUnavailable("the backend's warm-up run gave a wrong shape or values that are not finite")
    cost_model.observe(shape, count, seconds)
    return seconds


def _is_for_good(error: BaseException) -> bool:
    return isinstance(error, BackendLost) and error.for_good


def _post(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    """Resolve a future of the event loop from the worker's thread."""

    def end() -> None:
        if future.done():
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    with suppress(RuntimeError):  # the loop is closed, so nothing awaits the future
        future.get_loop().call_soon_threadsafe(end)
