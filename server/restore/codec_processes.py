"""The CodecProcesses: decode and encode images of one run in processes, with their pixels in shared memory."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import numpy as np

from server.errors import CodecLost
from server.formats.header import Header
from server.formats.output import OutputFormat
from server.imaging.tiling import Grid
from server.metrics import Metrics
from server.restore.codec_process import CodecProcess, ProcessAbsent, ProcessLost
from server.restore.codec_work import (
    Decoded,
    Ending,
    Layout,
    Plan,
    decode_into,
    encode_from,
    finish,
    packed,
    prepare,
    unpacked,
)
from server.restore.options import RestoreOptions
from server.restore.photo import Photo
from server.restore.tiles import RestoredFile, SingleRun, open_photo
from server.shared_memory import Lease, SegmentPool

log = logging.getLogger(__name__)

T = TypeVar("T")
OpenPhoto = Callable[[bytes, Header, Grid, RestoreOptions], Photo | SingleRun]

LIMIT_S = 120.0
"""A process that works longer on an image hangs: the slowest encoder takes some ten seconds for the largest one."""
TRIES = 2
"""Attempts for an image whose process is lost: the kernel may have killed it for memory that others used."""


class CodecProcesses:
    """Processes, each for one thread of the codec threads at a time, and the segments for their pixels.

    Images in tiles, and those for which there is no shared memory, are worked on in the calling thread.
    """

    def __init__(
        self, count: int, metrics: Metrics, *, segments: SegmentPool | None = None, limit_s: float = LIMIT_S
    ) -> None:
        self.processes = [CodecProcess(prepare, limit_s) for _ in range(count)]
        self._idle = deque(self.processes)  # as many as there are threads, so that a thread always finds one
        self._segments = segments or SegmentPool()
        self._metrics = metrics

    def start(self) -> None:
        """Start all processes; returns before they are ready."""
        for process in self.processes:
            process.start()

    def stop(self) -> None:
        """Kill all processes and remove all segments."""
        for process in self.processes:
            process.stop()
        self._segments.close()

    def open_photo(self, data: bytes, header: Header, grid: Grid, options: RestoreOptions) -> Photo | SingleRun:
        """Decode a photo: in a process if it is one run, and else as `tiles.open_photo`, whose errors it raises.

        Raises CodecLost if its process is lost, and another one as well.
        """
        layout = Layout.of(header, grid)
        lease = self._segments.lend(layout.bytes_for(len(data))) if grid.is_whole else None
        if lease is None:
            if grid.is_whole:
                self._metrics.count_codec_fault("no-shared-memory")
            return open_photo(data, header, grid, options)
        plan = Plan(layout, grid, options)
        packed_plan = packed(plan)
        upload = lease.data[layout.samples_bytes : layout.samples_bytes + len(data)]

        def decode(process: CodecProcess) -> bytes | None:
            np.copyto(upload, np.frombuffer(data, np.uint8))  # without the interpreter lock
            decoded: bytes | None = process.call(decode_into, lease.name, len(data), packed_plan, header)
            return decoded

        try:
            decoded = self.run(decode)
        except ProcessAbsent:
            decoded = None
        if decoded is None:
            return open_photo(data, header, grid, options)
        return SharedRun(self, lease, plan, packed_plan, decoded)

    def run(self, work: Callable[[CodecProcess], T]) -> T:
        """Run `work` with an idle process, and again with another if the first is lost; raises CodecLost after that."""
        for _ in range(TRIES):
            process = self._idle.pop()
            try:
                result = work(process)
            except ProcessLost as lost:
                self._metrics.count_codec_fault("hung" if lost.hung else "ended")
                log.warning("a codec process was lost", extra={"reason": str(lost)})
                with suppress(ProcessAbsent):
                    process.start()
                self._idle.appendleft(process)  # the others go first, while it starts again
            except BaseException:
                self._idle.append(process)
                raise
            else:
                self._idle.append(process)
                return result
        raise CodecLost(f"The process that worked on the image was lost, {TRIES} times in a row.")


class SharedRun(SingleRun):
    """The single run of a photo that lies in shared memory; `decoded` is its pickled `Decoded`."""

    def __init__(self, processes: CodecProcesses, lease: Lease, plan: Plan, packed_plan: bytes, decoded: bytes) -> None:
        super().__init__(plan.layout.tile(lease.data))
        self._processes = processes
        self._lease = lease
        self._plan, self._packed_plan = plan, packed_plan
        self._decoded = decoded

    def write(self, output: OutputFormat, labels: Sequence[str]) -> RestoredFile:
        """Put the result into the photo and write it, in a process; raises CodecLost as `CodecProcesses.open_photo`."""
        completion, lease, plan = self._completion, self._lease, self._plan
        ending = Ending(output, tuple(labels))

        def encode(process: CodecProcess) -> RestoredFile:
            np.copyto(self._pixels, completion.output)
            parts = (self._packed_plan, packed(ending), self._decoded, completion.aux)
            written, file = process.call(encode_from, lease.name, *parts)
            start = plan.layout.samples_bytes
            data = file if isinstance(file, bytes) else lease.read(start, file)
            return RestoredFile(data, *written)

        try:
            return self._processes.run(encode)
        except ProcessAbsent:
            decoded: Decoded = unpacked(self._decoded)
            return finish(lease.data, plan, decoded, completion.output, completion.aux, ending)
