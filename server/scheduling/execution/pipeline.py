"""The Pipeline: the batches on a backend, one that runs and at most one behind it."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from server.backends.base import (
    Backend,
    MaskingBackend,
    Pending,
    PipelinedBackend,
    PipelinedMaskingBackend,
    Pixels,
    PromptWeights,
    Sizes,
)
from server.errors import BackendError, BackendLost, DeviceOutOfMemory
from server.scheduling.queue.tile import Batch

log = logging.getLogger(__name__)

NextBatch = Callable[[Callable[[float], None]], Batch | None]
"""Take the next batch from the queue, perhaps after a wait for the run that goes on, of so many seconds at most."""


@dataclass(eq=False, slots=True)
class _Run:
    """A batch of `pixels` on the backend: first `pending`, then with an output or an error."""

    pixels: int
    began: float
    pending: Pending | None = None
    ended: float | None = None
    output: Pixels | None = None
    error: Exception | None = None

    def take(self) -> Pixels:
        """Return the output or raise the error, and keep neither: both hold memory of the device or the host."""
        output, error = self.output, self.error
        self.output = self.error = None
        try:
            if error is not None:
                raise error
            return output  # type: ignore[return-value]  # what it is is checked with the outcomes
        finally:
            del output, error  # or the error would hold this frame, and this frame the error


class Pipeline:
    """Begins batches, waits for them, and times each run from where it could start; belongs to the worker's thread.

    For each batch it is `begin`, perhaps `begin_ahead`, and `result`. Only `result` raises what the backend raised,
    but that BackendLost is raised at once. A batch that cannot be begun early is begun when its turn comes, alone on
    the device.
    """

    def __init__(self, backend: Backend, clock: Callable[[], float]) -> None:
        self.pipelined: PipelinedBackend | None = None
        """The backend, if it can begin a batch while another runs."""
        self.prompt_shape: tuple[int, int] | None = None
        """(levels, components) of the prompt weights that the backend answers with, if it does."""
        self.ahead: Batch | None = None
        """The batch that was begun early, until its turn comes."""
        self.began = 0.0
        """When the last run could start, in seconds on `clock`: not before the end of the run before it."""
        self.seconds = 0.0
        """How long the last run took from there; no moment counts in two runs."""
        self._backend = backend
        self._clock = clock
        self._run: _Run | None = None
        self._behind: _Run | None = None
        self._free_at = -math.inf
        self._most_pixels = math.inf

    def begin(self, batch: Batch) -> None:
        """Begin a run, or turn to the one that was begun ahead."""
        if batch is self.ahead:
            self._run, self._behind, self.ahead = self._behind, None, None
            if self._run is not None:
                return
        self._run = run = _Run(batch.pixel_count, self._clock())
        try:
            run.pending = self._put(batch)
        except Exception as error:
            run.error = error
            self._end(run)

    def begin_ahead(self, next_batch: NextBatch) -> None:
        """While the run goes on, begin a further batch if `next_batch` has one; what that raises is raised here."""
        run = self._run
        if self.pipelined is None or run is None or run.pending is None:
            return
        if (batch := next_batch(run.pending.wait)) is not None:
            self.begin_early(batch)

    def begin_early(self, batch: Batch) -> None:
        """Begin a batch before its turn: behind the run that goes on, if one does."""
        self.ahead = batch
        early = _Run(batch.pixel_count, self._clock())
        beside = 0 if self._run is None else self._run.pixels
        if beside and beside + early.pixels > self._most_pixels:
            return
        try:
            early.pending = self._put(batch)
            self._behind = early
        except BackendLost:
            raise
        except Exception as error:
            if not beside:  # nothing would be better when its turn comes
                early.error, self._behind = error, early
                self._end(early)
            elif isinstance(error, DeviceOutOfMemory):
                pixels = beside + early.pixels
                self._most_pixels = pixels - 1
                reason = {"pixels": pixels, "reason": error.detail}
                log.warning("two batches did not fit the device together", extra=reason)
            else:
                log.warning("a batch did not begin behind another; it is tried again alone", exc_info=True)

    def result(self) -> Pixels:
        """Wait for the run: its answer, or what the backend raised; `began` and `seconds` are right in both cases."""
        run, self._run = self._run, None
        if run is None:
            raise BackendError("no run was begun")
        self._wait(run)
        self.began = run.began
        self.seconds = (run.ended or run.began) - run.began
        return run.take()

    def wait_ahead(self) -> None:
        """Wait for what was begun ahead, so that the device has nothing to do; its answer is kept for its turn."""
        if self._behind is not None:
            self._wait(self._behind)

    def _put(self, batch: Batch) -> Pending:
        pixels, sizes = batch.stack(), batch.sizes
        batch.prompt_weights = weights = room_for_weights(len(pixels), self.prompt_shape)
        if self.pipelined is None:
            return _Blocking(self._backend, pixels, weights, sizes)
        if sizes is None:
            return self.pipelined.begin(pixels, weights)
        return cast(PipelinedMaskingBackend, self.pipelined).begin_masked(pixels, sizes, weights)

    def _wait(self, run: _Run) -> None:
        if run.pending is None:
            return
        pending, run.pending = run.pending, None
        try:
            run.output = pending.result()
        except Exception as error:
            run.error = error
        self._end(run)

    def _end(self, run: _Run) -> None:
        run.began = max(run.began, self._free_at)
        run.ended = self._free_at = self._clock()


def room_for_weights(count: int, prompt_shape: tuple[int, int] | None) -> PromptWeights | None:
    """What a run of `count` images fills in, NaN until then; None for a backend that has no prompt weights."""
    return None if prompt_shape is None else np.full((count, *prompt_shape), np.nan, np.float32)


@dataclass(frozen=True, slots=True)
class _Blocking:
    """The run of a backend that cannot begin one: it happens when its result is asked for."""

    backend: Backend
    pixels: Pixels
    weights: PromptWeights | None
    sizes: Sizes | None

    def wait(self, seconds: float) -> None:
        """It does not go on by itself."""

    def result(self) -> Pixels:
        if self.sizes is None:
            return self.backend.run(self.pixels, self.weights)
        return cast(MaskingBackend, self.backend).run_masked(self.pixels, self.sizes, self.weights)
