"""The Restorer: the use case, bytes of a photo in, bytes of its restored copy out."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TypeVar

from server.backends.base import BackendInfo
from server.concurrency import gather, run_inline
from server.formats import codec
from server.formats.header import probe
from server.formats.output import OutputFormat, PngEffort
from server.imaging import tiling
from server.imaging.entity_tag import entity_tag
from server.imaging.memory import DecodedRoom, blaming_memory
from server.imaging.tiling import Grid
from server.metrics import Metrics
from server.restore.codec_pool import CodecThreads
from server.restore.frame import Frame, Frames
from server.restore.options import Mode, Progress, Restored, RestoredFrames, RestoreOptions, Timings
from server.restore.stages import observe_stages
from server.restore.status import Status as Status
from server.restore.tiles import Submit, Work, open_photo, run_tiles, write_photo
from server.scheduling.batcher import Batcher, Clock
from server.scheduling.execution.pool import WorkerPool
from server.scheduling.execution.worker import NewBackend
from server.scheduling.queue.tile import PaddedShape, Priority
from server.scheduling.series import Series
from server.scheduling.snapshot import Snapshot
from server.settings import LimitSettings

log = logging.getLogger(__name__)

# Up to here a thread costs more than it saves (docs/scheduling.md). Many chunks make a small file slow, hence bytes.
INLINE_PIXELS = 128 * 128
INLINE_BYTES = 64 * 1024
INLINE_TAG_BYTES = 256 * 1024

T = TypeVar("T")


def _ignore(done: int, total: int) -> None:
    """Progress that nobody wants to know."""


class Restorer:
    """Decode, cut, submit, blend, encode; codecs run in a small pool of threads, but for small images on the loop.

    An image of at most `max_whole_pixels` runs in one piece, a larger one in tiles. `start`, `restore` and `stop`
    belong to one event loop.
    """

    def __init__(
        self,
        batcher: Batcher,
        workers: WorkerPool,
        limits: LimitSettings,
        metrics: Metrics,
        clock: Clock = time.monotonic,
        *,
        max_whole_pixels: int,
    ) -> None:
        self._batcher = batcher
        self._workers = workers
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._max_whole_pixels = max_whole_pixels
        self._draining = False
        self._stopped = False
        self._codecs = CodecThreads(metrics, batcher.max_backlog_s)
        self._decoded = DecodedRoom()
        self.info: BackendInfo | None = None
        self.active = 0
        """Requests that were accepted and have not ended."""

    @property
    def status(self) -> Status:
        if self._draining:
            return Status.DRAINING
        if self.info is None and self.failure is None:
            return Status.STARTING
        return Status.READY if self._workers.ready else Status.FAILED

    @property
    def failure(self) -> Exception | None:
        """Why it takes no requests any more, for good."""
        return self._workers.failure

    @property
    def max_backlog_s(self) -> float:
        """The bound on what is admitted, in predicted seconds."""
        return self._batcher.max_backlog_s

    async def start(self) -> None:
        """Start the devices, up to the first that is warm; what stops it is raised, and kept as `failure`."""
        self._codecs.start()
        self.info = await self._workers.start()
        log.info("ready", extra=self.info.log_fields)

    async def replace(self, new_backend: NewBackend) -> BackendInfo:
        """Go on with other backends of the same network, while requests are taken and none is lost.

        Raises BackendUnavailable where one cannot start; a device that had not been replaced by then stays as it is.
        """
        self.info = await self._workers.replace(new_backend)
        return self.info

    def drain(self) -> None:
        """Refuse new requests from now on; accepted ones go on, those still being read or decoded included."""
        self._draining = True

    async def stop(self, timeout_s: float) -> None:
        """Drain, give what waits or runs up to `timeout_s` seconds, release the threads and the backend; once."""
        self.drain()
        if self._stopped:
            return
        self._stopped = True
        await self._workers.stop(timeout_s)
        self._codecs.stop()

    @contextmanager
    def accepted(self) -> Iterator[None]:
        """Count one request as accepted: a drain waits for its upload too. Raises NotReady or Draining instead."""
        if (status := self.status) is not Status.READY:
            refusal = status.refusal
            self._metrics.count_refusal(refusal.slug)
            raise refusal
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    def deadline_in(self, patience_s: float | None) -> float | None:
        """The moment, on the clock of all deadlines, that is `patience_s` seconds from now; None without one."""
        return None if patience_s is None else self._clock() + patience_s

    def admit(
        self,
        height: int,
        width: int,
        options: RestoreOptions,
        deadline: float | None,
        priority: Priority,
        images: int = 1,
    ) -> None:
        """Refuse images before they are decoded, or even there: raises what `restore` would raise at once."""
        grid = self._plan(height, width, options)
        if not _is_small(grid):
            self._codecs.check()
        if grid.is_whole:
            self._batcher.admit(PaddedShape(*grid.tile_shape), deadline, priority, None if images == 1 else images)
        else:
            self._batcher.admit(PaddedShape(*grid.tile_shape), deadline, Priority.BATCH, images * grid.runs)

    def admit_any(self, arriving: int, upload_bytes: int) -> None:
        """Raise QueueFull if a file of which no more is known would be refused behind `arriving` others of its kind."""
        if self.status is Status.READY:  # else there is more to say than that
            self._batcher.admit_any(arriving)
            if upload_bytes > INLINE_BYTES:
                self._codecs.check(arriving)

    async def tag(self, data: bytes, options: RestoreOptions) -> str:
        """The entity tag of the answer to an upload: equal for equal bytes, options and model."""
        if self.info is None:
            raise Status.STARTING.refusal
        guide = "tone guide" if self._limits.tone_guide else "no guide"
        model = f"{self.info.model.name} {self.info.model.hash} {self.info.model.precision} {guide}"
        work = run_inline if len(data) <= INLINE_TAG_BYTES else self._codecs.read
        return await work(lambda: entity_tag(data, options.named(), model))

    def check(self, height: int, width: int, options: RestoreOptions) -> None:
        """Raise InvalidRequest for tiles that cannot be had of such an image, whatever the load."""
        self._plan(height, width, options)

    def snapshot(self) -> Snapshot:
        """What waits and runs now, and what runs are predicted to cost."""
        return self._batcher.snapshot()

    async def restore(
        self,
        data: bytes,
        options: RestoreOptions,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        progress: Progress = _ignore,
    ) -> Restored:
        """Restore one image of an accepted request, whole or in tiles; `progress` is told first of 0 runs.

        Raises InvalidImage for what cannot be read, InvalidRequest for tiles that cannot be had, QueueFull,
        MemoryShort, DeadlineExceeded and BackendError. Cancelling it takes its jobs out of the queue. The tiles of a
        photo are of the batch class whatever `priority` says.
        """
        began, labels = self._clock(), () if self.info is None else self.info.model.labels
        is_short = len(data) <= INLINE_BYTES
        header = await (run_inline if is_short else self._codecs.read)(partial(probe, data, self._limits))
        grid = self._plan(header.height, header.width, options)
        output = OutputFormat.same_as(header.format) if options.output is None else options.output
        quick, padded_shape = _is_small(grid) and is_short, PaddedShape(*grid.tile_shape)
        with blaming_memory(), ExitStack() as held:
            work: Work = run_inline
            if not quick:
                self._codecs.check()
                kind = (header.format, output, options.effort, options.report)
                work = held.enter_context(self._codecs.announce(kind, grid.height * grid.width)).run
            if grid.is_whole:
                # Again: of many that came at once most are refused here, and not after a decode.
                self._batcher.admit(padded_shape, deadline, priority)
                submit: Submit = lambda pixels: self._batcher.submit(pixels, deadline, priority)  # noqa: E731
            else:  # admitted before it is decoded: that is what takes memory
                submit = held.enter_context(Series(self._batcher, padded_shape, grid.runs, deadline)).submit
            with self._metrics.refusals:
                held.enter_context(self._decoded.take(header.decoded_bytes))
            photo, whole = await work(partial(open_photo, data, header, grid, options))
            del data  # the caller may let go of it as well, once `progress` says so
            decoded = self._clock()
            if whole is None:
                in_flight = self._batcher.useful_tiles(padded_shape)
                runs = await run_tiles(photo, grid, submit, work, in_flight, progress)
            else:
                runs = await whole.run(submit, progress)
            completed, stays = self._clock(), not quick or _is_quick(output, options)
            writing = partial(write_photo, photo, whole, output, labels)
            encoded, report, degradations = await (work if stays else self._codecs.run)(writing)
        ended = self._clock()
        inference_s = max(0.0, completed - decoded - runs.queue_s)
        timings = Timings(decoded - began, runs.queue_s, inference_s, ended - completed, runs.batch_size)
        observe_stages(self._metrics, timings, began, ended)
        self._metrics.count_restored_pixels(grid.height * grid.width)
        self._metrics.count_degradations(degradations)
        mode, padded_shape = Mode.WHOLE if grid.is_whole else Mode.TILED, runs.shared or padded_shape
        size, mixed = (grid.width, grid.height), runs.shared is not None
        keeps_depth = header.depth <= 8 or codec.keeps_depth(output, has_alpha=header.has_alpha)
        dropped = tuple(sorted(header.parts if keeps_depth else header.parts | {"bit-depth"}))
        return Restored(
            encoded, output, *size, timings, mode, grid.runs, report, padded_shape, mixed, degradations, dropped
        )

    async def restore_frames(
        self,
        frames: Frames,
        options: RestoreOptions,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> RestoredFrames:
        """Restore the decoded images (N, 3, H, W) of an accepted request: a job each or its tiles, admitted as a whole.

        Raises what `restore` raises; if one image fails, all do. Their size was held against the limits.
        """
        began = self._clock()
        count, _, height, width = frames.shape
        grid = self._plan(height, width, options)
        jobs, quick = count * grid.runs, count * height * width <= INLINE_PIXELS
        with blaming_memory(), ExitStack() as series:
            submit: Submit = lambda pixels: self._batcher.submit(pixels, deadline, priority)  # noqa: E731
            if jobs > 1:
                turn = priority if grid.is_whole else Priority.BATCH
                submit = series.enter_context(
                    Series(self._batcher, PaddedShape(*grid.tile_shape), jobs, deadline, turn, at_once=grid.is_whole)
                ).submit
            photos = [Frame(pixels, grid, options.strength) for pixels in frames]
            work: Work = run_inline if quick else self._codecs.run
            in_flight = self._batcher.useful_tiles(PaddedShape(*grid.tile_shape))
            runs = await gather(run_tiles(frame, grid, submit, work, in_flight, _ignore) for frame in photos)
        ended, queue_s = self._clock(), min(run.queue_s for run in runs)
        timings = Timings(0.0, queue_s, max(0.0, ended - began - queue_s), 0.0, max(run.batch_size for run in runs))
        observe_stages(self._metrics, timings, began, ended)
        self._metrics.count_restored_pixels(count * height * width)
        mode = Mode.WHOLE if grid.is_whole else Mode.TILED
        return RestoredFrames([frame.restored for frame in photos], timings, mode, grid.runs)

    def _plan(self, height: int, width: int, options: RestoreOptions) -> Grid:
        if self.info is None:
            raise Status.STARTING.refusal
        sizes = self.info.model.size_multiple, self._max_whole_pixels, options.tile, options.overlap
        return tiling.plan(height, width, *sizes, guided=self._limits.tone_guide)


def _is_small(grid: Grid) -> bool:
    return grid.height * grid.width <= INLINE_PIXELS


def _is_quick(output: OutputFormat, options: RestoreOptions) -> bool:
    """Whether a small image is written in less than the way to a thread takes."""
    return output not in (OutputFormat.WEBP, OutputFormat.AVIF) and options.effort is PngEffort.FAST
