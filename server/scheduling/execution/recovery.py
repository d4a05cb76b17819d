"""Recovery: retries a failed batch, in smaller batches on out-of-memory and in FP32 on non-finite output."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from server.backends.base import Pixels
from server.errors import BackendError, BackendLost, DeviceOutOfMemory, UnsupportedSize, WrongOutput
from server.metrics import Metrics, RepeatReason
from server.scheduling.execution.pipeline import NextBatch, Pipeline
from server.scheduling.queue.tile import Batch, Completion, Outcome, PaddedShape, Tile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParityCheck:
    """The share of results that are compared with FP32 before they are sent, and the PSNR they must reach."""

    every: int = 0
    """Compares one image in `every`; 0 compares none."""
    gate_db: float = 50.0
    """Lowest accepted PSNR for a signal range of 1; an image below it is answered from the FP32 run."""


class Ran(NamedTuple):
    """The outcome of each tile in the batch's order, and the seconds of the run, None if it failed."""

    outcomes: list[Outcome]
    seconds: float | None
    ahead: Batch | None = None
    """The batch that was taken during this run and must run next."""


class Recovery:
    """Runs the batches of one model through the pipeline; used by the worker's thread.

    On out-of-memory a batch runs in halves and then one image at a time, and `ceiling_pixels` limits later batches. An
    output that is not finite, or that a sampled check finds too far from FP32, is replaced by an FP32 run if the
    backend can do one (`can_repeat_in_fp32`).
    """

    def __init__(
        self,
        pipeline: Pipeline,
        metrics: Metrics,
        check: ParityCheck,
        clock: Callable[[], float] = time.monotonic,
        *,
        device: str = "0",
    ) -> None:
        self.can_repeat_in_fp32 = False
        self.ceiling_pixels: int | None = None
        """Pixels (N * H * W) that later runs should not exceed; None until memory runs out."""
        self.unsupported_shapes: set[PaddedShape] = set()
        """Padded shapes in which the backend accepts no mixed-size batch."""
        self._pipeline = pipeline
        self._metrics = metrics
        self._device = device
        self._check = check
        self._clock = clock
        self._unchecked = 0

    def run(self, batch: Batch, next_batch: NextBatch) -> Ran:
        """Return an outcome for every tile of the batch; of the backend's errors only BackendLost is raised.

        The batch that `next_batch` returns during the run is begun behind it.
        """
        count = size = len(batch.tiles)
        outcomes: list[Outcome] = []
        seconds: float | None = None
        begins_ahead: NextBatch | None = next_batch
        while len(outcomes) < count:
            part = batch if size == count else batch.part(batch.tiles[len(outcomes) : len(outcomes) + size])
            ended, seconds = self._run_once(part, begins_ahead)
            if ended is None and len(part.tiles) > 1:
                size = math.ceil(count / 2) if size == count and part.shared not in self.unsupported_shapes else 1
                self._pipeline.wait_ahead()  # beside it less would fit
                begins_ahead = None
                continue
            outcomes += ended or [_does_not_fit(part.tiles[0])]
        return Ran(outcomes, seconds if size == count else None, self._pipeline.ahead)

    def _run_once(self, batch: Batch, next_batch: NextBatch | None) -> tuple[list[Outcome] | None, float | None]:
        """Run as one batch; return outcomes, None on out-of-memory, and seconds, None if the run failed."""
        outcomes: list[Outcome] | None = None
        seconds: float | None = None
        self._pipeline.begin(batch)
        if next_batch is not None:
            self._pipeline.begin_ahead(next_batch)  # outside the try: an error of the queue is no error of this run
        try:
            result = self._pipeline.result()
            seconds = self._pipeline.seconds
            outcomes = batch.outcomes(result, self._pipeline.began, seconds)
        except DeviceOutOfMemory as error:
            self._lower_ceiling(batch)
            log.warning("a run did not fit the device", extra=_extra(batch) | {"reason": error.detail})
        except BackendLost:
            raise
        except UnsupportedSize as error:
            seconds = None
            log.warning("no run takes images of this size", extra=_extra(batch) | {"reason": error.detail})
            if batch.shared is None:
                outcomes = [_failure(error) for _ in batch.tiles]
            else:  # each may still run alone
                self.unsupported_shapes.add(batch.shared)
        except Exception as error:
            seconds = None
            log.exception("a run failed", extra=_extra(batch))
            outcomes = [_failure(error) for _ in batch.tiles]
        began = self._pipeline.began
        self._metrics.observe_run(
            len(batch.tiles), self._pipeline.seconds, self._device, batch.pixel_count, batch.model
        )
        if batch.shared is not None:
            padding = batch.pixel_count - sum(tile.pixel_count for tile in batch.tiles)
            self._metrics.count_mixed_size_run(self._device, len(batch.tiles), padding)
        # Outside the except clauses: a live traceback would keep the failed run's arrays on the device.
        if outcomes is not None and seconds is not None:
            outcomes = self._repeat_where_needed(batch.tiles, outcomes, began)
        return outcomes, seconds

    def _lower_ceiling(self, batch: Batch) -> None:
        # Half of the failed batch, rounded up to whole images, is tried next.
        failed = batch.pixel_count
        smaller = math.ceil(len(batch.tiles) / 2) * batch.padded_shape.pixels if len(batch.tiles) > 1 else failed // 2
        self.ceiling_pixels = smaller if self.ceiling_pixels is None else min(self.ceiling_pixels, smaller)
        self._metrics.count_out_of_memory(self.ceiling_pixels)

    def _repeat_where_needed(self, tiles: Sequence[Tile], outcomes: list[Outcome], began: float) -> list[Outcome]:
        broken = sum(isinstance(outcome, WrongOutput) for outcome in outcomes)
        if broken:
            self._metrics.count_non_finite(broken)
            log.error("a run gave values that are not finite", extra={"tiles": broken, "shape": tiles[0].shape})
        if not self.can_repeat_in_fp32:
            return outcomes
        return [self._repeated(tile, outcome, began) for tile, outcome in zip(tiles, outcomes, strict=True)]

    def _repeated(self, tile: Tile, outcome: Outcome, began: float) -> Outcome:
        if isinstance(outcome, Completion) and not self._is_sampled():
            return outcome
        if tile.future.done():  # its caller is gone, which does not justify a slow run
            return outcome
        again = self._fp32(tile)
        if again is None:
            return outcome
        reason: RepeatReason = "non-finite"
        if isinstance(outcome, Completion):
            psnr_db = psnr(outcome.output, again.output)
            self._metrics.observe_parity(psnr_db)
            if psnr_db >= self._check.gate_db:
                return outcome._replace(inference_s=self._clock() - began)
            reason = "below-gate"
            log.error("a run was too far from FP32", extra={"psnr_db": psnr_db, "shape": tile.shape})
        self._metrics.count_repeat(reason)
        return again._replace(queue_s=began - tile.enqueued_at, inference_s=self._clock() - began)

    def _is_sampled(self) -> bool:
        if not self._check.every:
            return False
        self._unchecked = (self._unchecked + 1) % self._check.every
        return self._unchecked == 0

    def _fp32(self, tile: Tile) -> Completion | None:
        """Run one tile in FP32; None if that fails as well."""
        self._pipeline.wait_ahead()
        began = self._clock()
        batch = Batch([tile], began)
        outcome: Outcome | None = None
        try:
            (outcome,) = batch.outcomes(self._pipeline.run_fp32(batch), began, 0.0)
        except BackendLost:
            raise
        except Exception:
            log.exception("a run in FP32 failed", extra=_extra(batch))
            return None
        finally:
            self._metrics.observe_fp32_run(self._clock() - began, self._device)
        return outcome if isinstance(outcome, Completion) else None


def psnr(found: Pixels, reference: Pixels) -> float:
    """Return the peak signal-to-noise ratio in dB for a signal range of 1; infinity for equal arrays."""
    error = float(np.mean(np.square(found - reference, dtype=np.float64)))
    return math.inf if error == 0 else -10 * math.log10(error)


def _does_not_fit(tile: Tile) -> DeviceOutOfMemory:
    height, width = tile.shape[-2:]
    return DeviceOutOfMemory(
        f"an image of {width}x{height} pixels does not fit the memory that the device has free; send a smaller one",
        image_pixels=tile.pixel_count,
    )


def _failure(error: Exception) -> BackendError:
    """Return the error for one caller: the backend's own message, but not that of any other exception."""
    if isinstance(error, BackendError):
        return type(error)(error.detail, **error.extensions)
    failure = BackendError("the backend failed while it ran the image")
    if isinstance(error, MemoryError):
        failure.__cause__ = MemoryError()  # a new one: the traceback of the original holds the arrays of the run
    return failure


def _extra(batch: Batch) -> dict[str, object]:
    return {"tiles": len(batch.tiles), "shape": batch.tiles[0].shape}
