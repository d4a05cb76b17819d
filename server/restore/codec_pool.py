"""The Codecs: small thread pools for decoding and encoding, each with a prediction of its backlog."""

import time
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Self, TypeVar

from server.concurrency import available_cores
from server.imaging.tiling import Grid
from server.metrics import Metrics
from server.restore.worker_threads import WorkerThreads
from server.scheduling.admission.backlog import WaitBound

T = TypeVar("T")

# More threads would only share cores: a codec keeps one busy, and the backend needs the others.
MAX_THREADS = 4
# The seconds a pixel takes are averaged over about this many images of a kind.
RECENT_IMAGES = 16
# An untiled image has two parts, decoding and encoding. The parts of a tiled one overlap and tell nothing about waits.
WHOLE_PARTS = 2


class Codecs:
    """All codec threads: for images of one run, for photos in tiles, and one for headers.

    Decoding a photo of 24 megapixels takes a quarter of a second of CPU time, and all of its steps two seconds. They
    run in background threads: no other image waits behind them, and the event loop has the cores first.
    """

    def __init__(self, metrics: Metrics, max_backlog_s: float, processes: int = 0) -> None:
        threads = min(MAX_THREADS, available_cores())
        # Each process has a thread that waits for it. Photos in tiles need no process.
        self.whole = CodecThreads(processes or threads, "promptir-codec", metrics, max_backlog_s)
        self.tiled = CodecThreads(threads, "promptir-tiled", metrics, max_backlog_s, background=True)
        self._reader: WorkerThreads | None = None
        metrics.watch_codecs(lambda: self.whole.backlog_s + self.tiled.backlog_s)

    def start(self) -> None:
        self.whole.start()
        self.tiled.start()
        self._reader = WorkerThreads(1, "promptir-reader")

    def stop(self) -> None:
        """Drop waiting work and return at once; running work ends by itself."""
        self.whole.stop()
        self.tiled.stop()
        if self._reader is not None:
            self._reader.stop()

    def of(self, grid: Grid) -> "CodecThreads":
        """Return the threads for an image."""
        return self.whole if grid.is_whole else self.tiled

    async def read(self, work: Callable[[], T]) -> T:
        """Read a header in a separate thread: it is short, and must not wait behind decodes."""
        return await _started(self._reader).run(work)


class CodecThreads:
    """Threads for decoding and encoding, with the predicted seconds until all announced work is done.

    With a fast device images wait for these threads, so their backlog has the same bound, `max_backlog_s`. Everything
    but the work itself belongs to the event loop.
    """

    def __init__(
        self, count: int, name: str, metrics: Metrics, max_backlog_s: float, *, background: bool = False
    ) -> None:
        self.count = count
        self._name = name
        self._background = background
        self._threads: WorkerThreads | None = None
        self._pending_s = 0.0
        self._images = 0
        self._pixel_s: dict[Hashable, float] = {}
        self._usual_s = 0.0
        self._bound = WaitBound(max_backlog_s)
        self._metrics = metrics

    def start(self) -> None:
        self._threads = WorkerThreads(self.count, self._name, background=self._background)

    def stop(self) -> None:
        """Drop waiting work and return at once; running work ends by itself."""
        if self._threads is not None:
            self._threads.stop()

    @property
    def backlog_s(self) -> float:
        """Predicted seconds until the threads are done with all announced images."""
        return self._pending_s / self.count

    def check(self, arriving: int = 0) -> None:
        """Raise QueueFull if the announced work, and `arriving` images of the usual cost, exceed the bound."""
        if self._images:
            backlog_s = self.backlog_s + arriving * self._usual_s / self.count
            with self._metrics.refusals:
                self._bound.check(backlog_s, "reading and writing the images that were admitted before")

    def announce(self, kind: Hashable, pixels: int) -> "CodecWork":
        """Announce the work on an image, pending until the exit of its context; `kind` decides the cost of a pixel."""
        return CodecWork(self, kind, pixels)

    async def run(self, work: Callable[[], T]) -> T:
        """Run work in one of the threads."""
        return await _started(self._threads).run(work)

    def predict(self, kind: Hashable, pixels: int) -> float:
        """Predict the seconds of one thread; an unknown kind is assumed to cost as much as the most expensive one."""
        pixel_s = self._pixel_s.get(kind)
        return pixels * (max(self._pixel_s.values(), default=0.0) if pixel_s is None else pixel_s)

    def _learn(self, kind: Hashable, pixels: int, seconds: float) -> None:
        self._usual_s += (seconds - self._usual_s) / RECENT_IMAGES
        pixel_s = seconds / pixels
        known = self._pixel_s.get(kind, pixel_s)
        self._pixel_s[kind] = known + (pixel_s - known) / RECENT_IMAGES

    def _began(self, seconds: float) -> None:
        self._images += 1
        self._pending_s += seconds

    def _ended(self, seconds: float) -> None:
        self._images -= 1
        self._pending_s = self._pending_s - seconds if self._images else 0.0  # so that no rounding errors add up


class CodecWork:
    """The work on one image, in several parts: pending from entry to exit; its duration is learned if it succeeds."""

    def __init__(self, threads: CodecThreads, kind: Hashable, pixels: int) -> None:
        self._threads = threads
        self._kind = kind
        self._pixels = pixels
        self._announced_s = 0.0
        self._expected_s = 0.0
        self._taken_s = 0.0
        self._waited_s = 0.0
        self._parts = 0

    def __enter__(self) -> Self:
        self._announced_s = self._threads.predict(self._kind, self._pixels)
        self._threads._began(self._announced_s)
        self._expected_s = self._threads.backlog_s
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._threads._ended(self._announced_s)
        if error is None and self._parts:  # else it was given back unused
            self._threads._learn(self._kind, self._pixels, self._taken_s)
            if self._parts == WHOLE_PARTS:
                self._threads._bound.learn(self._expected_s, self._waited_s)

    async def run(self, work: Callable[[], T]) -> T:
        """Run one part in one of the threads."""

        def timed() -> tuple[T, float]:
            began = time.perf_counter()
            return work(), time.perf_counter() - began

        began = time.perf_counter()
        result, seconds = await self._threads.run(timed)
        self._taken_s += seconds
        self._waited_s += time.perf_counter() - began
        self._parts += 1
        return result


def _started(threads: WorkerThreads | None) -> WorkerThreads:
    if threads is None:
        raise RuntimeError("the threads were not started")
    return threads
