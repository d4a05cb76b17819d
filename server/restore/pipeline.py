"""The Restorer: the steps from the bytes of a photo to the bytes of its restored copy."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from typing import TypeVar

from server.concurrency import INLINE_BYTES, gather, run_inline
from server.errors import PromptIRServeError
from server.formats import codec
from server.formats.header import Header, is_quick, probe
from server.formats.output import OutputFormat, PngEffort
from server.imaging import tiling
from server.imaging.entity_tag import entity_tag
from server.imaging.memory import DecodedRoom, blaming_memory
from server.imaging.tiling import Grid
from server.metrics import Metrics
from server.restore.codec_pool import Codecs
from server.restore.codec_processes import CodecProcesses, OpenPhoto
from server.restore.frame import Frame, Frames
from server.restore.lifecycle import Lifecycle
from server.restore.lifecycle import Status as Status
from server.restore.options import Mode, Progress, Restored, RestoredFrames, RestoreOptions, Timings
from server.restore.photo import Photo
from server.restore.request import RestoreRequest
from server.restore.stages import observe_stages
from server.restore.tiles import RestoredFile, Runs, SingleRun, Work, open_photo, run_tiles, write_photo
from server.scheduling.batcher import Batcher, Clock
from server.scheduling.execution.pool import WorkerPool
from server.scheduling.queue.tile import Priority
from server.scheduling.snapshot import Snapshot
from server.settings import LimitSettings

# Up to these sizes, as up to INLINE_BYTES, a thread costs more than it saves (docs/scheduling.md).
INLINE_PIXELS = 128 * 128
INLINE_TAG_BYTES = 256 * 1024

T = TypeVar("T")


def _ignore(done: int, total: int) -> None:
    """Take note of no progress."""


class Restorer(Lifecycle):
    """Restores photos and tensors in one line of steps: inspect, admit, decode, run, encode.

    Codecs run in small pools of threads or processes, or on the event loop if the image is small. An image of at most
    `max_whole_pixels` runs in one piece, a larger one in tiles. `start`, `restore` and `stop` belong to one event loop.
    """

    def __init__(
        self,
        batcher: Batcher,
        workers: WorkerPool,
        limits: LimitSettings,
        metrics: Metrics,
        clock: Clock = time.monotonic,
        *,
        models: Sequence[str],
        max_whole_pixels: int,
        codec_processes: int = 0,
    ) -> None:
        super().__init__(models, workers, Codecs(metrics, batcher.max_backlog_s, codec_processes), metrics)
        self._processes = CodecProcesses(codec_processes, metrics) if codec_processes else None
        self._batcher = batcher
        self._limits = limits
        self._clock = clock
        self._max_whole_pixels = max_whole_pixels
        self._decoded = DecodedRoom()

    async def start(self) -> None:
        """Start the codec processes, if any, then as `Lifecycle.start`."""
        if self._processes is not None:
            self._processes.start()
        await super().start()

    async def stop(self, timeout_s: float) -> None:
        """Stop as `Lifecycle.stop`, then end the codec processes."""
        await super().stop(timeout_s)
        if self._processes is not None:
            self._processes.stop()

    @property
    def max_backlog_s(self) -> float:
        """The longest backlog that is admitted, in predicted seconds."""
        return self._batcher.max_backlog_s

    def deadline_in(self, patience_s: float | None) -> float | None:
        """Turn a time limit in seconds from now into a deadline on the clock of the Restorer; None without one."""
        return None if patience_s is None else self._clock() + patience_s

    def admit(
        self, request: RestoreRequest, height: int, width: int, *, images: int = 1, input_format: str | None = None
    ) -> None:
        """Plan the runs of `images` images of one size, and give their request a ticket for them.

        This is where load is judged: the ticket reserves seconds of the devices, room in the queue and, for an upload
        of `input_format`, seconds of the codec threads. The size may be that of a file as stored, before orientation.
        Raises InvalidRequest for tiles that such an image cannot have, QueueFull, DeadlineUnmet, DeadlineExceeded.
        """
        grid = self._plan_for(request, height, width)
        if not _is_small(grid):
            self._admit_to_codecs(request, input_format)
        runs, priority = images * grid.runs, request.priority if grid.is_whole else Priority.BATCH
        at_once = grid.is_whole and images > 1
        ticket = self._batcher.ticket(request.shape, runs, request.deadline, priority, at_once=at_once)
        request.ticket = request.hold(ticket)

    def admit_any(self, arriving: int, upload_bytes: int) -> None:
        """Raise QueueFull if a file of `upload_bytes`, taken to be of the usual size, would find no room.

        `arriving` further requests are ahead of it and not yet queued. Reserves nothing.
        """
        if self.status is Status.READY:  # otherwise the route has a better answer
            self._batcher.admission.admit_any(arriving)
            if upload_bytes > INLINE_BYTES:
                self._codecs.whole.check(arriving)

    async def tag(self, data: bytes, options: RestoreOptions) -> str:
        """Compute the entity tag of the answer to an upload: equal for equal bytes, options and model."""
        served = self.info_of(self.model_named(options.model)).model
        guide = "tone guide" if self._limits.tone_guide else "no guide"
        model = f"{served.name} {served.hash} {served.precision} {guide}"
        if options.model is not None:  # the default model has one tag, named or not
            options = replace(options, model=None)
        work = run_inline if len(data) <= INLINE_TAG_BYTES else self._codecs.read
        return await work(partial(entity_tag, data, _named(options), model))

    def check(self, height: int, width: int, options: RestoreOptions) -> None:
        """Raise InvalidRequest for tiles that an image of this size cannot have, whatever the load; UnknownModel."""
        self._plan(height, width, options, self.model_named(options.model))

    def snapshot(self) -> Snapshot:
        """Describe what waits and runs now, and what runs are predicted to cost."""
        return self._batcher.snapshot()

    def glance(self, data: bytes, request: RestoreRequest) -> Header | None:
        """Read the header of a whole file for `inspect`; None if that takes long, or fails, as `inspect` will tell."""
        with suppress(PromptIRServeError):
            request.header = probe(data, self._limits) if is_quick(data) else None
        return request.header

    async def inspect(self, data: bytes, request: RestoreRequest) -> Header:
        """Read the header of an upload and plan the runs of the image; raises InvalidImage and InvalidRequest.

        A ticket by the stored size moves to the size as shown: the image may lie on its side.
        """
        if (header := request.header) is None:
            work = run_inline if is_quick(data) else self._codecs.read
            header = request.header = await work(partial(probe, data, self._limits))
        if (grid := request.grid) is None or (grid.height, grid.width) != (header.height, header.width):
            self._plan_for(request, header.height, header.width)
            if request.ticket is not None:
                request.ticket.move(request.shape)
        return header

    async def restore(self, data: bytes, request: RestoreRequest, progress: Progress = _ignore) -> Restored:
        """Restore one image, whole or in tiles: inspect, admit, decode, run, encode.

        A request that was admitted by the first bytes of its upload keeps its ticket. `progress` is called with the
        runs that are done and those in all, from (0, n) on. Raises InvalidImage for an unreadable file, InvalidRequest
        for tiles that the image cannot have, QueueFull, DeadlineUnmet, MemoryShort, DeadlineExceeded and BackendError.
        Cancelling it takes its tiles out of the queue. The tiles of a large photo are of the batch class.
        """
        began = self._clock()
        request.keep_ticket()
        with blaming_memory(), request:
            header = await self.inspect(data, request)
            work = self._admit_image(request, header, len(data))
            opened = await work(partial(self._opener(request), data, header, request.planned, request.options))
            del data
            request.release_upload()
            decoded = self._clock()
            runs = await self._run(opened, request, work, progress)
            completed = self._clock()
            output = request.output_for(header.format)
            file = await self._encode(opened, request, work, output)
        ended = self._clock()
        inference_s = max(0.0, completed - decoded - runs.queue_s)
        timings = Timings(decoded - began, runs.queue_s, inference_s, ended - completed, runs.batch_size)
        observe_stages(self._metrics, request.model, timings, began, ended)
        return self._restored(header, request, output, file, runs, timings)

    async def restore_frames(self, frames: Frames, request: RestoreRequest) -> RestoredFrames:
        """Restore the decoded images (N, 3, H, W) of a request, admitted as a whole: admit, run.

        Raises as `restore`; if one image fails, all do. Their size was held against the limits before.
        """
        began = self._clock()
        request.keep_ticket()
        count, _, height, width = frames.shape
        with blaming_memory(), request:
            if request.ticket is None:
                self.admit(request, height, width, images=count)
            ticket, grid = request.admitted, request.planned
            photos = [Frame(pixels, grid, request.options.strength) for pixels in frames]
            work: Work = run_inline if count * height * width <= INLINE_PIXELS else self._codecs.of(grid).run
            in_flight = self._batcher.useful_tiles(request.shape)
            runs = await gather(run_tiles(frame, grid, ticket.submit, work, in_flight, _ignore) for frame in photos)
        ended, queue_s = self._clock(), min(run.queue_s for run in runs)
        timings = Timings(0.0, queue_s, max(0.0, ended - began - queue_s), 0.0, max(run.batch_size for run in runs))
        observe_stages(self._metrics, request.model, timings, began, ended)
        self._metrics.count_restored_pixels(count * height * width)
        return RestoredFrames([frame.restored for frame in photos], timings, Mode.of(grid), grid.runs)

    def _admit_image(self, request: RestoreRequest, header: Header, upload_bytes: int) -> Work:
        """Admit a request unless it is already, and reserve room for the decoded image; returns where to work on it."""
        if request.ticket is None:
            self.admit(request, header.height, header.width, input_format=header.format)
        # A small image may be in a large file, or have metadata that was compressed to little.
        if request.codec_work is None and max(upload_bytes, header.metadata.size) > INLINE_BYTES:
            self._admit_to_codecs(request, header.format)
        with self._metrics.refusals:
            request.hold(self._decoded.take(header.decoded_bytes))
        return run_inline if request.codec_work is None else request.codec_work.run

    def _admit_to_codecs(self, request: RestoreRequest, input_format: str | None) -> None:
        grid, options = request.planned, request.options
        threads = self._codecs.of(grid)
        threads.check()
        if input_format is not None:
            kind = (input_format, request.output_for(input_format), options.effort, options.report)
            request.codec_work = request.hold(threads.announce(kind, grid.height * grid.width))

    def _opener(self, request: RestoreRequest) -> OpenPhoto:
        """Return where an image is decoded: a small one, on the event loop, is not sent to a process."""
        return open_photo if self._processes is None or request.codec_work is None else self._processes.open_photo

    async def _run(self, opened: Photo | SingleRun, request: RestoreRequest, work: Work, progress: Progress) -> Runs:
        submit = request.admitted.submit
        if isinstance(opened, SingleRun):
            return await opened.run(submit, progress)
        in_flight = self._batcher.useful_tiles(request.shape)
        return await run_tiles(opened, request.planned, submit, work, in_flight, progress)

    async def _encode(
        self, opened: Photo | SingleRun, request: RestoreRequest, work: Work, output: OutputFormat
    ) -> RestoredFile:
        labels = self.info_of(request.model).model.labels
        if request.codec_work is None and not _is_quick(output, request.options):
            work = self._codecs.whole.run
        write = opened.write if isinstance(opened, SingleRun) else partial(write_photo, opened)
        return await work(partial(write, output, labels))

    def _restored(
        self,
        header: Header,
        request: RestoreRequest,
        output: OutputFormat,
        file: RestoredFile,
        runs: Runs,
        timings: Timings,
    ) -> Restored:
        """Count a restored image, and put together what its client receives and learns."""
        grid, keeps_depth = request.planned, header.depth <= 8 or codec.keeps_depth(output, has_alpha=header.has_alpha)
        self._metrics.count_restored_pixels(grid.height * grid.width)
        self._metrics.count_degradations(file.degradations)
        return Restored(
            file.data,
            output,
            grid.width,
            grid.height,
            timings,
            Mode.of(grid),
            grid.runs,
            file.report,
            (runs.shared or request.shape)[:2],
            mixed_sizes=runs.shared is not None,
            degradations=file.degradations,
            dropped=tuple(sorted(header.parts if keeps_depth else header.parts | {"bit-depth"})),
            model=request.model,
        )

    def _plan_for(self, request: RestoreRequest, height: int, width: int) -> Grid:
        request.model = self.model_named(request.options.model)
        request.grid = grid = self._plan(height, width, request.options, request.model)
        return grid

    def _plan(self, height: int, width: int, options: RestoreOptions, name: str) -> Grid:
        model, whole = self.info_of(name).model, self._max_whole_pixels
        tile = options.tile or tiling.fitting_tile(height, width, model, whole)
        parts = height, width, model.size_multiple, whole, tile, options.overlap
        return tiling.plan(*parts, guided=self._limits.tone_guide)


@lru_cache  # clients send few combinations of options
def _named(options: RestoreOptions) -> Mapping[str, object]:
    return options.named()


def _is_small(grid: Grid) -> bool:
    return grid.height * grid.width <= INLINE_PIXELS


def _is_quick(output: OutputFormat, options: RestoreOptions) -> bool:
    """Whether a small image is written faster than a thread is reached."""
    return output.encoder.is_fast and options.effort is PngEffort.FAST
