"""The Restorer: the use case, bytes of a photo in, bytes of its restored copy out."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from server.backends.base import BackendInfo, Pixels
from server.batching.batcher import Batcher, Clock
from server.batching.job import Priority
from server.batching.pool import WorkerPool
from server.batching.snapshot import Snapshot
from server.errors import Draining, NotReady, Refused
from server.imaging import codec, tiling
from server.imaging.codec import Image, OutputFormat
from server.imaging.header import peek, probe
from server.imaging.tiling import Tile
from server.metrics import Metrics
from server.settings import LimitSettings

log = logging.getLogger(__name__)

# More would only take turns: the codecs keep a core busy, and the backend wants the others.
MAX_CODEC_THREADS = 4
# Up to here the way to a thread and back costs more than it takes off the event loop (docs/scheduling.md). Many
# chunks make a small file slow to read, hence the bytes.
INLINE_PIXELS = 128 * 128
INLINE_BYTES = 64 * 1024

T = TypeVar("T")


class Status(StrEnum):
    """Where the service is in its life; restorations are taken in `READY` only."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True)
class Timings:
    """Seconds that one restoration spent in each stage, and the jobs that shared its run."""

    decode_s: float
    queue_s: float
    inference_s: float
    encode_s: float
    batch_size: int


@dataclass(frozen=True)
class Restored:
    """An encoded image of exactly the input's size, and how long each stage took."""

    data: bytes
    output: OutputFormat
    width: int
    height: int
    timings: Timings


@dataclass(frozen=True, slots=True)
class Opened:
    """A decoded image, its tile and the tile's pixels, padded: (3, padded_height, padded_width)."""

    image: Image
    tile: Tile
    pixels: Pixels
    began: float
    decode_s: float


class Restorer:
    """Decode, cut, submit, crop, encode; codecs run in a small pool of threads, but for small images on the loop.

    `start`, `restore` and `stop` belong to one event loop.
    """

    def __init__(
        self,
        batcher: Batcher,
        workers: WorkerPool,
        limits: LimitSettings,
        metrics: Metrics,
        clock: Clock = time.monotonic,
    ) -> None:
        self._batcher = batcher
        self._workers = workers
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._draining = False
        self._stopped = False
        self._codec_threads: ThreadPoolExecutor | None = None
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

    async def start(self) -> None:
        """Start the devices, up to the first that is warm; what stops it is raised, and kept as `failure`."""
        threads = min(MAX_CODEC_THREADS, os.cpu_count() or 1)
        self._codec_threads = ThreadPoolExecutor(threads, thread_name_prefix="promptir-codec")
        self.info = await self._workers.start()
        log.info("ready", extra=vars(self.info))

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
        if self._codec_threads is not None:
            self._codec_threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def accepted(self) -> Iterator[None]:
        """Count one request as accepted: a drain waits for its upload too. Raises NotReady or Draining instead."""
        status = self.status
        if status is not Status.READY:
            refusal = _refusal(status)
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

    def admit(self, height: int, width: int, deadline: float | None, priority: Priority) -> None:
        """Refuse an image before it is decoded, or even there: raises what `finish` would raise at once."""
        if self.info is None:
            raise _refusal(Status.STARTING)
        (tile,) = tiling.plan(height, width, self.info.size_multiple)
        self._batcher.admit(tile.padded_height, tile.padded_width, deadline, priority)

    def snapshot(self) -> Snapshot:
        """What waits and runs now, and what runs are predicted to cost."""
        return self._batcher.snapshot()

    async def restore(self, data: bytes, output: OutputFormat, quality: int) -> Restored:
        """`open` and `finish` in one, without a deadline."""
        return await self.finish(await self.open(data), output, quality)

    async def open(self, data: bytes) -> Opened:
        """Decode one image of an accepted request; raises InvalidImage for what cannot be read."""
        if self.info is None:
            raise _refusal(Status.STARTING)
        began, multiple = self._clock(), self.info.size_multiple
        size = peek(data, self._limits)
        quick = size is not None and size[0] * size[1] <= INLINE_PIXELS and len(data) <= INLINE_BYTES
        image, tile, pixels = (
            self._decode(data, multiple) if quick else await self._in_codec_thread(lambda: self._decode(data, multiple))
        )
        return Opened(image, tile, pixels, began, self._clock() - began)

    async def finish(
        self,
        opened: Opened,
        output: OutputFormat,
        quality: int,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Restored:
        """Restore and encode what was opened.

        Raises QueueFull, DeadlineExceeded, BackendError. Cancelling it takes its job out of the queue.
        """
        completion = await self._batcher.submit(opened.pixels, deadline, priority)
        completed = self._clock()
        restored = tiling.crop(completion.output, opened.tile)
        quick = opened.tile.height * opened.tile.width <= INLINE_PIXELS and output is not OutputFormat.WEBP
        encoded = (
            codec.encode(opened.image, restored, output, quality)
            if quick
            else await self._in_codec_thread(lambda: codec.encode(opened.image, restored, output, quality))
        )
        ended = self._clock()
        timings = Timings(
            opened.decode_s, completion.queue_s, completion.inference_s, ended - completed, completion.batch_size
        )
        self._observe(timings, ended - opened.began)
        return Restored(encoded, output, opened.tile.width, opened.tile.height, timings)

    def _decode(self, data: bytes, multiple: int) -> tuple[Image, Tile, Pixels]:
        header = probe(data, self._limits)
        image = codec.decode(data, header)
        (tile,) = tiling.plan(header.height, header.width, multiple)
        return image, tile, tiling.cut(image.pixels, tile)

    async def _in_codec_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._codec_threads, work)

    def _observe(self, timings: Timings, total_s: float) -> None:
        self._metrics.observe_stage("decode", timings.decode_s)
        self._metrics.observe_stage("queue", timings.queue_s)
        self._metrics.observe_stage("inference", timings.inference_s)
        self._metrics.observe_stage("encode", timings.encode_s)
        self._metrics.observe_stage("total", total_s)


def _refusal(status: Status) -> Refused:
    if status is Status.DRAINING:
        return Draining("The server is stopping: it finishes what it accepted and takes nothing new.")
    if status is Status.STARTING:
        return NotReady("The server is starting: its backend is not warmed up yet.")
    return NotReady("The server has no working backend.")
