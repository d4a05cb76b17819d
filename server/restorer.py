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
from server.batching.worker import Worker
from server.errors import Draining, NotReady, Refused
from server.imaging import codec, tiling
from server.imaging.codec import Image, OutputFormat
from server.imaging.header import probe
from server.imaging.tiling import Tile
from server.metrics import Metrics
from server.settings import LimitSettings

log = logging.getLogger(__name__)

# More would only take turns: the codecs keep a core busy, and the backend wants the others.
MAX_CODEC_THREADS = 4

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


@dataclass(frozen=True)
class _Opened:
    image: Image
    tile: Tile
    pixels: Pixels  # the tile, padded: (3, padded_height, padded_width)


class Restorer:
    """Decode, cut, submit, crop, encode; codecs run in a small pool of threads, the loop only waits.

    `start`, `restore` and `stop` belong to one event loop.
    """

    def __init__(
        self, batcher: Batcher, worker: Worker, limits: LimitSettings, metrics: Metrics, clock: Clock = time.monotonic
    ) -> None:
        self._batcher = batcher
        self._worker = worker
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._draining = False
        self._stopped = False
        self._codec_threads: ThreadPoolExecutor | None = None
        self.info: BackendInfo | None = None
        self.failure: Exception | None = None
        self.active = 0
        """Requests that were accepted and have not ended."""

    @property
    def status(self) -> Status:
        if self._draining:
            return Status.DRAINING
        if self.info is None and self.failure is None:
            return Status.STARTING
        return Status.READY if self._worker.ready else Status.FAILED

    async def start(self) -> None:
        """Load and warm up the backend; what stops it is raised, and kept as `failure`."""
        threads = min(MAX_CODEC_THREADS, os.cpu_count() or 1)
        self._codec_threads = ThreadPoolExecutor(threads, thread_name_prefix="promptir-codec")
        try:
            self.info = await self._worker.start()
        except Exception as error:
            self.failure = error
            raise
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
        await self._worker.stop(timeout_s)
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

    async def restore(
        self, data: bytes, output: OutputFormat, quality: int, patience_s: float | None = None
    ) -> Restored:
        """Restore one encoded image of an accepted request.

        Raises InvalidImage for what cannot be read, QueueFull, DeadlineExceeded if the run has not begun within
        `patience_s` seconds, BackendError. Cancelling it takes its job out of the queue.
        """
        if self.info is None:
            raise _refusal(Status.STARTING)
        began, multiple = self._clock(), self.info.size_multiple
        deadline = None if patience_s is None else began + patience_s
        opened = await self._in_codec_thread(lambda: self._open(data, multiple))
        decoded = self._clock()
        completion = await self._batcher.submit(opened.pixels, deadline)
        completed = self._clock()
        restored = tiling.crop(completion.output, opened.tile)
        encoded = await self._in_codec_thread(lambda: codec.encode(opened.image, restored, output, quality))
        ended = self._clock()
        timings = Timings(
            decoded - began, completion.queue_s, completion.inference_s, ended - completed, completion.batch_size
        )
        self._observe(timings, ended - began)
        return Restored(encoded, output, opened.tile.width, opened.tile.height, timings)

    def _open(self, data: bytes, multiple: int) -> _Opened:
        header = probe(data, self._limits)
        image = codec.decode(data, header)
        (tile,) = tiling.plan(header.height, header.width, multiple)
        return _Opened(image, tile, tiling.cut(image.pixels, tile))

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
