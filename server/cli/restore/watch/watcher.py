"""The Watcher: scans a folder, restores what has arrived and records the outcome, until it is told to stop."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from server.cli.restore.files import check_free, write
from server.cli.restore.inputs import OUTPUT_BY_SUFFIX
from server.cli.restore.targets import RestoreTarget, Result, ServerLost
from server.cli.restore.watch.arrivals import Arrival, Arrivals
from server.cli.restore.watch.journal import Journal
from server.errors import BackendLost, ImageTooLarge, InvalidRequest, PromptIRServeError, QueueFull, Refused
from server.formats.output import OutputFormat
from server.restore.options import RestoreOptions

SCAN_S = 1.0
SCAN_SHARE = 0.1
"""Most of the time that is spent on scanning: a folder that takes long to scan is scanned less often."""
STOP_S = 10.0
"""Time to finish the photos that are being restored when the command is told to stop."""
MOST_STARTS = 10
"""A photo during which this command was killed this often is not started again."""
MOST_TRIES = 5
"""Tries of a photo for which there is no memory, or that loses the device."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


@dataclass(frozen=True)
class Report:
    """Tells the user about outcomes: each is called with a photo's path and what became of it, or with a sentence."""

    done: Callable[[str, str, str], None]
    """Called with the photo's path, the verdict and the path of the result."""
    failed: Callable[[str, str], None]
    said: Callable[[str], None]


class _Waits(Exception):  # noqa: N818 - no fault of the photo
    """Says why a photo has to wait; `is_bounded` if it may be the cause itself."""

    def __init__(self, reason: Exception, *, is_bounded: bool = False) -> None:
        super().__init__(str(reason))
        self.is_bounded = is_bounded


class Watcher:
    """Restores each version of each photo once; bad photos are recorded and left alone until they change.

    The result of `a/b.jpg` is OUT/a/b.jpg.png, or OUT/a/b.jpg for results in JPEG. A server that is lost or busy and a
    full disk are waited for.
    """

    def __init__(
        self,
        arrivals: Arrivals,
        journal: Journal,
        target: RestoreTarget,
        out: Path,
        output: OutputFormat,
        options: RestoreOptions,
        report: Report,
        *,
        jobs: int,
        overwrite: bool,
        max_upload_bytes: int,
    ) -> None:
        self._arrivals = arrivals
        self._journal = journal
        self._target = target
        self._out = out
        self._output = output
        self._options = replace(options, output=output)
        self._report = report
        self._jobs = jobs
        self._overwrite = overwrite
        self._max_upload_bytes = max_upload_bytes
        self._stop = asyncio.Event()
        self._trouble: str | None = None

    def stop(self) -> None:
        """Let `run` end; photos that are being restored have `STOP_S` to finish."""
        self._stop.set()

    async def run(self) -> None:
        """Restore what arrives until `stop`; raises RunEnded if the server refuses the key."""
        self._recover()
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                settled = await asyncio.to_thread(self._arrivals.scan, began)
            except OSError as error:
                self._say(f"{self._arrivals.folder} cannot be read ({error.strerror}); waiting for it")
                settled = []
            scan_s = time.monotonic() - began
            if settled:
                await self._restore_all(settled)
            await self._pause(max(SCAN_S, scan_s / SCAN_SHARE))

    def _recover(self) -> None:
        """Record the results that a killed run has written and not recorded."""
        for arrival in self._journal.interrupted():
            if self.destination(arrival).exists():
                self._journal.finish(arrival)

    def destination(self, arrival: Arrival) -> Path:
        """Return the path of a photo's result; it depends on nothing but the photo's own name."""
        place = Path(arrival.place)
        if OUTPUT_BY_SUFFIX.get(place.suffix.lower()) is self._output:
            return self._out / place
        return self._out / f"{arrival.place}{self._output.suffix}"

    async def _restore_all(self, arrivals: list[Arrival]) -> None:
        waiting = iter(arrivals)
        workers = [asyncio.create_task(self._work(waiting)) for _ in range(min(self._jobs, len(arrivals)))]
        stopping = asyncio.create_task(self._stop.wait())
        try:
            all_done = asyncio.create_task(_gathered(workers))
            await asyncio.wait([all_done, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not all_done.done():
                await asyncio.wait([all_done], timeout=STOP_S)
            if all_done.done():
                all_done.result()
            all_done.cancel()
        finally:
            stopping.cancel()
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, waiting: Iterator[Arrival]) -> None:
        for arrival in waiting:  # the workers share one iterator
            if self._stop.is_set():
                return
            await self._settle(arrival)

    async def _settle(self, arrival: Arrival) -> None:
        """Restore a photo and record the outcome, waiting as long as something other than the photo prevents it."""
        pause_s, tries = FIRST_PAUSE_S, 0
        while not self._stop.is_set():
            try:
                await self._try(arrival)
            except _Waits as wait:
                tries += wait.is_bounded
                if tries >= MOST_TRIES:
                    self._fail(arrival, str(wait))
                    return
                self._say(f"waiting: {wait}")
                await self._pause(pause_s)
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
            except (PromptIRServeError, OSError) as error:
                self._fail(arrival, str(error) or type(error).__name__)
                return
            else:
                self._trouble = None
                return

    async def _try(self, arrival: Arrival) -> None:
        """Restore a photo once; raises _Waits, PromptIRServeError, OSError and RunEnded."""
        data = await asyncio.to_thread(self._arrivals.read, arrival, self._max_upload_bytes)
        if data is None:
            return  # the next scan finds it as it is then
        destination = self.destination(arrival)
        overwrite = self._overwrite or self._journal.owns_result(arrival)
        try:
            starts = self._journal.start(arrival, is_free=not destination.exists())
        except OSError as error:
            raise _Waits(error) from error
        try:
            if starts > MOST_STARTS:
                raise InvalidRequest(f"this command was killed {MOST_STARTS} times while it restored the photo")
            check_free(destination, overwrite=overwrite)
            self._check(data)
            restored = await self._restored(data)
        except (asyncio.CancelledError, _Waits):
            self._journal.postpone(arrival)
            raise
        await self._write(arrival, destination, restored, overwrite=overwrite)

    def _check(self, data: bytes) -> None:
        if not data:
            raise InvalidRequest("the file is empty")
        if len(data) > self._max_upload_bytes:
            raise ImageTooLarge(f"the file is larger than the {self._max_upload_bytes} bytes of --max-upload-bytes")

    async def _restored(self, data: bytes) -> Result:
        try:
            return await self._target.restore(data, self._options)
        except (ServerLost, QueueFull) as error:
            raise _Waits(error) from error
        except (Refused, BackendLost) as error:
            raise _Waits(error, is_bounded=True) from error

    async def _write(self, arrival: Arrival, destination: Path, restored: Result, *, overwrite: bool) -> None:
        """Write and record a result; if it is cancelled meanwhile, it does so first."""
        writing = asyncio.create_task(asyncio.to_thread(write, destination, restored.data, overwrite=overwrite))
        try:
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await writing
                self._journal.finish(arrival)
                raise
            self._journal.finish(arrival)
        except OSError as error:
            self._journal.postpone(arrival)
            raise _Waits(error) from error
        self._report.done(arrival.place, restored.verdict, str(destination))

    def _fail(self, arrival: Arrival, reason: str) -> None:
        try:
            self._journal.fail(arrival, reason)
        except OSError as error:  # it is tried again at the next scan
            self._say(str(error))
            return
        self._report.failed(arrival.place, reason)

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:  # once, and not at each scan or try
            self._trouble = trouble
            self._report.said(trouble)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return


async def _gathered(workers: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*workers)
