"""The Pipeline: the batch that runs on a backend and at most one queued behind it."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from server.backends.base import Backend, ModelInput, Pending, PipelinedBackend, Result
from server.errors import BackendError, BackendLost, DeviceOutOfMemory
from server.scheduling.queue.tile import Batch

log = logging.getLogger(__name__)

NextBatch = Callable[[Callable[[float], None]], Batch | None]
"""Returns the next batch, if there is one; may first call its argument, which waits for the current run, with a
bound in seconds."""


@dataclass(eq=False, slots=True)
class _Run:
    """One batch on its backend: first `pending`, then with a result or an error."""

    model: str
    pixels: int
    began: float
    pending: Pending | None = None
    ended: float | None = None
    result: Result | None = None
    error: Exception | None = None

    def take(self) -> Result:
        """Return the result or raise the error, and keep neither: both hold memory of the device or the host."""
        result, error = self.result, self.error
        self.result = self.error = None
        try:
            if error is not None:
                raise error
            return result  # type: ignore[return-value]  # `Batch.outcomes` checks it
        finally:
            del result, error  # otherwise the error would hold this frame, and this frame the error


class Pipeline:
    """Begins batches, waits for them and times each run from the moment it could start; used by the worker's thread.

    Each batch takes `begin`, then perhaps `begin_ahead`, then `result`. Errors of the backend are raised by `result`,
    except BackendLost, which is raised at once. A batch that cannot begin early begins in its turn, alone. So does one
    of another model than the current run: two backends share the device, and their runs must not overlap.
    """

    def __init__(self, backends: Mapping[str, Backend], clock: Callable[[], float]) -> None:
        self.pipelined: dict[str, PipelinedBackend] = {}
        """The backends that can begin a batch while another runs, by model."""
        self.ahead: Batch | None = None
        """The batch that was begun early, until its turn comes."""
        self.began = 0.0
        """When the last run could start, in seconds on `clock`: not before the end of the run before it."""
        self.seconds = 0.0
        """How long the last run took from `began`; runs do not overlap."""
        self._backends = backends
        self._clock = clock
        self._run: _Run | None = None
        self._behind: _Run | None = None
        self._free_at = -math.inf
        self._most_pixels = math.inf

    def begin(self, batch: Batch) -> None:
        """Begin a run, or make the one that was begun ahead the current one."""
        if batch is self.ahead:
            self._run, self._behind, self.ahead = self._behind, None, None
            if self._run is not None:
                return
        self._run = run = _Run(batch.model, batch.pixel_count, self._clock())
        try:
            run.pending = self._put(batch)
        except Exception as error:
            run.error = error
            self._end(run)

    def begin_ahead(self, next_batch: NextBatch) -> None:
        """Begin a further batch during the current run, if `next_batch` returns one; its exceptions are not caught."""
        run = self._run
        if run is None or run.pending is None or run.model not in self.pipelined:
            return
        if (batch := next_batch(run.pending.wait)) is not None:
            self.begin_early(batch)

    def begin_early(self, batch: Batch) -> None:
        """Begin a batch before its turn: behind the current run of its model, or if nothing runs."""
        self.ahead = batch
        if batch.model not in self.pipelined or (self._run is not None and self._run.model != batch.model):
            return
        early = _Run(batch.model, batch.pixel_count, self._clock())
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

    def result(self) -> Result:
        """Wait for the run; return its result or raise its error. `began` and `seconds` hold in both cases."""
        run, self._run = self._run, None
        if run is None:
            raise BackendError("no run was begun")
        self._wait(run)
        self.began = run.began
        self.seconds = (run.ended or run.began) - run.began
        return run.take()

    def wait_ahead(self) -> None:
        """Wait for the batch that was begun ahead, which leaves the device idle; its result is kept for its turn."""
        if self._behind is not None:
            self._wait(self._behind)

    def run_fp32(self, batch: Batch) -> Result:
        """Run a batch in FP32 while nothing else runs (see `wait_ahead`); raises as `Backend.run`."""
        return self._backends[batch.model].run(batch.model_input("fp32"))

    def _put(self, batch: Batch) -> Pending:
        pipelined = self.pipelined.get(batch.model)
        if pipelined is None:
            return _Blocking(self._backends[batch.model], batch.model_input())
        return pipelined.begin(batch.model_input())

    def _wait(self, run: _Run) -> None:
        if run.pending is None:
            return
        pending, run.pending = run.pending, None
        try:
            run.result = pending.result()
        except Exception as error:
            run.error = error
        self._end(run)

    def _end(self, run: _Run) -> None:
        run.began = max(run.began, self._free_at)
        run.ended = self._free_at = self._clock()


@dataclass(frozen=True, slots=True)
class _Blocking:
    """A run of a backend that is not pipelined: it takes place in `result`."""

    backend: Backend
    batch: ModelInput

    def wait(self, seconds: float) -> None:
        """Return at once: nothing runs before `result`."""

    def result(self) -> Result:
        return self.backend.run(self.batch)
